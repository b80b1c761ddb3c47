"""Supabase's Management API: SQL over HTTPS, for hosts that let out nothing but port 443.

Its answers are told apart with care, since somebody stands before a firewall and must know whose fault it is: theirs
(token, scope, project), the API's (429, 5xx: tried again), or that of something in between (HTML, an answer cut short).
A file of ours may be sent again after an answer was lost: it does nothing the second time.

Source: https://supabase.com/docs/reference/api (POST /v1/projects/{ref}/database/query, marked Beta).
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from holdfast.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable
from holdfast.postgres.extras import httpx_module, request_within
from holdfast.postgres.routes import StatementError
from holdfast.postgres.supabase import DASHBOARD, KeyKind, check_key, key_kind

ADDRESS = "https://api.supabase.com"
#: Seconds: for a look; for a file (the API itself gives up after 50 to 60 s).
READ_LIMIT = 5.0
APPLY_LIMIT = 65.0
#: Tries in all, seconds before the second (then twice as long each time), and the longest wait that it may ask for.
TRIES = 5
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
_SQLSTATE = re.compile(r"ERROR:\s+([0-9A-Z]{5}): *(.*)", re.DOTALL)
_SEEN = 160


@dataclass(frozen=True)
class Pooler:
    """Where a project's shared pooler listens."""

    host: str
    port: int
    user: str
    database: str


class ManagementApi:
    """One project, seen through the Management API. `said` hears why it waits."""

    name = "api"

    def __init__(
        self,
        ref: str,
        token: str,
        *,
        address: str = ADDRESS,
        said: Callable[[str], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        _check_token(token)
        self.ref = ref
        self.where = f"{address} for project {ref}"
        self._said = said
        self._pause = pause
        self._httpx = httpx_module("the Management API")
        self._client = self._httpx.Client(
            base_url=f"{address.rstrip('/')}/v1/projects/{ref}",
            headers={"Authorization": f"Bearer {token}", "User-Agent": "holdfast"},
            follow_redirects=False,
        )

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Run a query and return its rows, within READ_LIMIT and without a second try."""
        found = self._ask("POST", "/database/query", {"query": query, "read_only": False}, READ_LIMIT, tries=1)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise DatabaseUnavailable(f"{self.where} answered with JSON that is no rows: something else in between?")
        return found

    def run(self, text: str) -> None:
        """Run a file that may be run again. Raises `StatementError` with what Postgres said."""
        self._ask("POST", "/database/query", {"query": text, "read_only": False}, APPLY_LIMIT, tries=TRIES)

    def pooler(self) -> Pooler:
        """Where the project's pooler listens. Nobody can guess its host."""
        found = self._ask("GET", "/config/database/pooler", None, READ_LIMIT, tries=1)
        known = [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict)]
        known.sort(key=lambda each: each.get("database_type") != "PRIMARY")
        try:
            first = known[0]
            return Pooler(str(first["db_host"]), int(first["db_port"]), str(first["db_user"]), str(first["db_name"]))
        except (IndexError, KeyError, TypeError, ValueError, OverflowError):
            raise DatabaseUnavailable(f"{self.where} names no pooler for this project") from None

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, limit: float, *, tries: int) -> Any:
        for number in range(tries):
            pause = FIRST_PAUSE * 2**number
            try:
                return self._once(method, path, body, limit)
            except _AgainError as error:
                if number + 1 == tries:
                    raise DatabaseUnavailable(f"{self.where}: {error}") from error
                pause = min(max(pause, error.after or 0), LONGEST_PAUSE)
                self._said(f"{error}; again in {pause:g} s")
            self._pause(pause)
        raise AssertionError("a request is tried at least once")

    def _once(self, method: str, path: str, body: dict[str, Any] | None, limit: float) -> Any:
        httpx = self._httpx
        try:
            answer = request_within(self._client, method, path, body, limit)
        except httpx.TimeoutException:
            raise _AgainError(f"no answer within {limit:g} s") from None
        except (httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise _AgainError(f"the answer was cut short or damaged ({error})") from None
        except httpx.HTTPError as error:
            raise _AgainError(f"no connection ({error})") from None
        if answer.status_code < 300:
            return _content(answer)
        return self._refuse(answer)

    def _refuse(self, answer: Any) -> NoReturn:
        status, message = answer.status_code, _message(answer)
        if status == 429 or status >= 500:
            raise _AgainError(f"it answered {status} ({message})", after=_after(answer))
        if not _is_json(answer):
            raise DatabaseUnavailable(f"{self.where}: it answered {status} with {message}")
        if status == 400:
            found = _SQLSTATE.search(message)
            raise StatementError(found[1] if found else None, (found[2] if found else message).strip())
        if status == 401:
            raise DatabaseRefused(
                f"{self.where} does not accept SUPABASE_ACCESS_TOKEN ({message}): it has expired, or was revoked; make"
                f" one at {DASHBOARD}/account/tokens"
            )
        if status == 403:
            raise DatabaseRefused(
                f"{self.where}: this access token may not run SQL there ({message}); take one of a member of the"
                " project's organisation, or of an OAuth app with the scope database:write"
            )
        if status == 404:
            raise DatabaseRefused(
                f"{self.where}: there is no such project for this token ({message}); the id stands in"
                f" {DASHBOARD}/project/ID: set SUPABASE_PROJECT_REF to it"
            )
        raise DatabaseRefused(f"{self.where} answered {status}: {message}")


class _AgainError(Exception):
    """No answer that says anything about the statement; `after`: seconds to wait, where the answer says so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _check_token(token: str) -> None:
    check_key("SUPABASE_ACCESS_TOKEN", token)
    kind = key_kind(token)
    if kind not in (KeyKind.ACCESS_TOKEN, KeyKind.UNKNOWN):
        raise ConfigurationError(
            f"SUPABASE_ACCESS_TOKEN holds a key of the project ({kind}), which the Management API does not know; it"
            f" takes a token of your account (sbp_...): {DASHBOARD}/account/tokens"
        )


def _content(answer: Any) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        raise _AgainError(f"it answered {answer.status_code} with {_shape(answer)}, not with JSON") from None


def _is_json(answer: Any) -> bool:
    try:
        answer.json()
    except (ValueError, RecursionError):
        return False
    return True


def _message(answer: Any) -> str:
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return _shape(answer)
    said = found.get("message") or found.get("error") if isinstance(found, dict) else None
    return said if isinstance(said, str) else json.dumps(found)[:_SEEN]


def _shape(answer: Any) -> str:
    """What came instead of JSON, in few words: most often a page of some proxy."""
    kind = answer.headers.get("content-type", "").partition(";")[0] or "no content type"
    title = re.search(r"<title>\s*(.*?)\s*</title>", answer.text, re.DOTALL | re.IGNORECASE)
    page = f"a page of {kind}"
    return f"{page} titled {title[1][:_SEEN]!r}: a proxy in between?" if title else f"{page}: a proxy in between?"


def _after(answer: Any) -> float | None:
    for name in ("retry-after", "x-ratelimit-reset"):
        try:
            return float(answer.headers[name])
        except (KeyError, ValueError):
            continue
    return None
