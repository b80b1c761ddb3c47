"""The ledger over HTTPS alone: its functions called through PostgREST, which is Supabase's Data API.

The second, small way to run the same calls: what a `Call` says in SQL is said here as a function's name and arguments
in JSON. Both come from one place, the signatures of the SQL functions. Slower than a connection: each call is a request
of its own (milliseconds on one's own machine, tens of them over the internet), nothing listens for bells, and a
handler's own transaction needs a connection.

Sources: https://docs.postgrest.org (functions as RPC, errors), https://supabase.com/docs/guides/api/api-keys (new keys
go into `apikey` alone; the older JWTs into both header fields).
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urlsplit

from holdfast.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    NeedsConnection,
    SchemaMismatch,
)
from holdfast.postgres.calls import Call, Row
from holdfast.postgres.extras import httpx_module, request_within
from holdfast.postgres.rest_errors import no_json, refusal
from holdfast.postgres.rest_values import decode, encode
from holdfast.postgres.signatures import Signature, of_function, of_statement
from holdfast.postgres.supabase import KeyKind, check_key, jwt_claims, key_kind, project_ref

_CALL = re.compile(r"SELECT (?:(?P<columns>[\w, ]+) FROM )?holdfast\.(?P<name>\w+)\((?P<given>.*)\)", re.DOTALL)
_PLACEHOLDER = re.compile(r"%[sb](?:::[\w\[\]]+)*|coalesce\(%s[^()]*\)")
_LITERALS = {"true": True, "false": False}


@dataclass(frozen=True)
class Place:
    """Where PostgREST answers, and with which key."""

    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """New keys are no JWTs: as a bearer token they are refused. The older ones are expected in both fields."""
        fields = {"apikey": self.key, "User-Agent": "holdfast"}
        if key_kind(self.key) is not KeyKind.SECRET:
            fields["Authorization"] = f"Bearer {self.key}"
        return fields

    def check(self) -> None:
        """Raise `ConfigurationError` for a key of a kind that this can never work with."""
        check_key("SUPABASE_SERVICE_KEY", self.key)
        kind = key_kind(self.key)
        if kind in (KeyKind.ANON, KeyKind.PUBLISHABLE, KeyKind.ACCESS_TOKEN):
            raise ConfigurationError(
                f"SUPABASE_SERVICE_KEY holds a key of kind {kind}, which may not call the ledger; take a secret key"
                " (sb_secret_..., or the older service_role key) from the page API Keys of the project's settings"
            )
        claims, ref = jwt_claims(self.key), project_ref(given=None, url=self.url, dsn=None)
        if claims is not None and claims.ref and ref and claims.ref != ref:
            raise ConfigurationError(
                f"SUPABASE_SERVICE_KEY is a key of project {claims.ref}, and SUPABASE_URL is that of {ref}; set both to"
                " those of one project"
            )


def rest_address(url: str, key: str) -> str:
    """The ledger's address as one text that travels like a connection string: never shown whole, as those are not."""
    parts = urlsplit(url.rstrip("/"))
    return f"{parts.scheme}://:{quote(key, safe='')}@{parts.netloc}{parts.path}"


def place_of(address: str) -> Place:
    """The opposite of `rest_address`."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return Place(f"{parts.scheme}://{host}{port}{parts.path}", unquote(parts.password or ""))


@dataclass(frozen=True)
class Request:
    """A call as a function and its arguments."""

    signature: Signature
    arguments: dict[str, Any]
    columns: tuple[str, ...]


def request_of(call: Call[Any]) -> Request:
    """What a call is over HTTPS. Raises `NeedsConnection` for one that is no function."""
    signature = of_statement(call.text)
    if signature is not None and isinstance(call.parameters, dict):
        given = {argument.name: call.parameters.get(argument.name) for argument in signature.arguments}
        return Request(signature, _encoded(signature, given), tuple(name for name, _ in signature.columns))
    found = _CALL.fullmatch(call.text)
    signature = of_function(found["name"]) if found else None
    if found is None or signature is None or not isinstance(call.parameters, tuple):
        raise NeedsConnection(
            f"{call.name} needs a connection to Postgres, and here is HTTPS alone: set DATABASE_URL, where that gets"
            " through"
        )
    given = _given(found["given"], call.parameters, signature)
    columns = tuple(name.strip() for name in (found["columns"] or "").split(",")) if found["columns"] else ("",)
    return Request(signature, _encoded(signature, given), columns)


def _given(text: str, parameters: tuple[Any, ...], signature: Signature) -> dict[str, Any]:
    """The arguments by name: each place of the call is a placeholder, or true or false."""
    places = re.findall(rf"{_PLACEHOLDER.pattern}|true|false", text)
    values = iter(parameters)
    named = zip(signature.arguments, places, strict=False)  # those behind have defaults
    given = {argument.name: _LITERALS[place] if place in _LITERALS else next(values) for argument, place in named}
    if next(values, values) is not values:
        raise NeedsConnection(f"{signature.name} is called in a form that says nothing of all its arguments over HTTPS")
    return given


def _encoded(signature: Signature, given: dict[str, Any]) -> dict[str, Any]:
    """As JSON. What is None where there is a default is left out, so that the default holds."""
    encoded = {}
    for argument in signature.arguments:
        if argument.name in given and not (given[argument.name] is None and argument.has_default):
            encoded[argument.name] = encode(given[argument.name], argument.type)
    return encoded


def rows_of(request: Request, content: Any) -> list[tuple[Any, ...]]:
    """The rows of an answer, with the columns in the order in which the call asked for them."""
    signature = request.signature
    if signature.is_scalar:
        type = signature.columns[0][1]
        values = content if signature.is_set else [content]
        return [(decode(value, type),) for value in values or []]
    types = dict(signature.columns)
    return [tuple(decode(row[name], types[name]) for name in request.columns) for row in content or []]


class _Client:
    """What the two clients share: where, what a call becomes, and what an answer means."""

    def __init__(self, address: str) -> None:
        self.place = place_of(address)
        self.place.check()
        self.httpx = httpx_module("the ledger")
        self.where = f"{self.place.url} (HTTPS)"

    def options(self, deadline: float) -> dict[str, Any]:
        return {"timeout": self.httpx.Timeout(deadline, connect=min(deadline, 5.0))}

    def path(self, request: Request) -> str:
        return f"{self.place.url}/rest/v1/rpc/holdfast_{request.signature.name}"

    def read(self, call: Call[Row], request: Request, answer: Any) -> list[tuple[Any, ...]]:
        kind = answer.headers.get("content-type", "")
        if not answer.is_success:
            raise refusal(self.where, call.name, answer.status_code, answer.text, kind)
        try:
            content = answer.json() if answer.content else None
        except (ValueError, RecursionError):
            raise no_json(self.where, answer.status_code, answer.text, kind) from None
        try:
            return rows_of(request, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SchemaMismatch(
                f"{self.where} answered {call.name} in another form ({error!r}); run: holdfast migrate up"
            ) from error

    def fail(self, call: Call[Any], error: Exception, deadline: float) -> NoReturn:
        reason = str(error) or type(error).__name__
        if isinstance(error, self.httpx.TimeoutException | TimeoutError):
            raise DatabaseUnavailable(f"{self.where} did not answer {call.name} within {deadline:g} s") from None
        raise DatabaseUnavailable(f"{self.where} cannot be reached: {reason}") from error


class RestClient(_Client):
    """Calls from threads and plain programs."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._client: Any = None

    def call(self, call: Call[Row], deadline: float) -> list[tuple[Any, ...]]:
        """The rows of a call; raises as the ledger over a connection does."""
        request = request_of(call)
        if self._client is None:
            self._client = self.httpx.Client(headers=self.place.headers)
        try:
            answer = request_within(self._client, "POST", self.path(request), request.arguments, deadline)
        except self.httpx.HTTPError as error:
            self.fail(call, error, deadline)
        return self.read(call, request, answer)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


class RestRoute:
    """PostgREST as a way to look at what is applied. Nothing is applied over it: it calls functions, and no more."""

    name = "https"

    def __init__(self, address: str, deadline: float = 5.0) -> None:
        self._client = RestClient(address)
        self._deadline = deadline
        self.where = self._client.where

    def rows(self, query: str) -> list[dict[str, Any]]:
        call = Call("migrate", query, {} if query.startswith("--") else (), tuple)
        columns = request_of(call).columns
        return [dict(zip(columns, row, strict=True)) for row in self._client.call(call, self._deadline)]

    def run(self, text: str) -> None:
        raise NeedsConnection(f"{self.where} calls functions and applies no files; take another way: --via")

    def close(self) -> None:
        self._client.close()


class AsyncRestClient(_Client):
    """Calls from asyncio programs."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._client: Any = None

    async def call(self, call: Call[Row], deadline: float) -> list[tuple[Any, ...]]:
        """The rows of a call; raises as the ledger over a connection does."""
        request = request_of(call)
        if self._client is None:
            self._client = self.httpx.AsyncClient(headers=self.place.headers)
        try:
            async with asyncio.timeout(deadline):
                answer = await self._client.post(self.path(request), json=request.arguments, **self.options(deadline))
        except (self.httpx.HTTPError, TimeoutError) as error:
            self.fail(call, error, deadline)
        return self.read(call, request, answer)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
