"""Who calls, and what they may do.

A key comes in `Authorization: Bearer hf_...` (RFC 6750), never in a URL. Without any key ever made, an API that listens
on this machine only serves this machine's own callers without one: not a browser page of another site
(`Sec-Fetch-Site`), not a name that was bent to point here (`Host`), nothing that a proxy passes on. As soon as the
first key is made, everybody needs one.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.core.api_keys import Role
from holdfast.errors import DatabaseUnavailable
from holdfast.services.keyring import Key, KeyRing
from holdfast.web.identity import Identify, Network
from holdfast.web.problems import Problem, unavailable

_PLACE = "holdfast.caller"
#: Seconds that probes and health wait for a key that is not known yet: a look for it, and a little.
_PROMPT = 1.5
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request. `identity` is what limits are counted by; `access` what was found of their key."""

    identity: str
    access: Literal["key", "open", "none", "invalid", "unknown"]
    key: Key | None = None

    @property
    def is_stranger(self) -> bool:
        """Whether they are known to be nobody who may do anything."""
        return self.access in ("none", "invalid")

    @property
    def may_look(self) -> bool:
        """Whether they may see more than a status."""
        return self.access in ("key", "open")


def caller_of(scope: Scope) -> Caller:
    """The caller that `Authenticate` found."""
    found = scope[_PLACE]
    assert isinstance(found, Caller)
    return found


def identity_of(scope: Scope) -> str:
    """What limits are counted by: a valid key, else the address."""
    return caller_of(scope).identity


class Authenticate:
    """Finds out who calls, before anything else looks at the request; it refuses nobody itself.

    `is_private`: the server listens on this machine only. `prompt`: paths that answer at once, also while the ledger
    stands still; there a key that is not known soon is not waited for.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        ring: KeyRing,
        is_private: bool,
        trusted: Sequence[Network] = (),
        prompt: Collection[str] = (),
    ) -> None:
        self._app = app
        self._ring = ring
        self._is_private = is_private
        self._address = Identify(trusted)
        self._prompt = prompt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, _PLACE: await self._find(scope)}
        await self._app(scope, receive, send)

    async def _find(self, scope: Scope) -> Caller:
        address = await self._address(scope)
        token = _bearer(scope)
        if token is None:
            return Caller(address, self._without_key(scope))
        try:
            async with asyncio.timeout(_PROMPT if scope["path"] in self._prompt else None):
                key = await self._ring.authenticate(token)
        except (DatabaseUnavailable, TimeoutError):
            return Caller(address, "unknown")
        return Caller(address, "invalid") if key is None else Caller(f"key:{key.id}", "key", key)

    def _without_key(self, scope: Scope) -> Literal["open", "none", "unknown"]:
        if not (self._is_private and _is_from_here(scope)):
            return "none"
        if self._ring.in_use is None:
            return "unknown"
        return "none" if self._ring.in_use else "open"


def require(*roles: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets in callers with one of these roles, or whoever needs no key here."""

    async def admit(request: Request) -> Caller:
        caller = caller_of(request.scope)
        match caller.access:
            case "open":
                return caller
            case "unknown":
                raise unavailable("the ledger does not answer, so your key cannot be checked; try again")
            case "none":
                raise _unauthorised("send a key as Authorization: Bearer hf_...; make one with: holdfast keys create")
            case "invalid":
                raise _unauthorised("this key opens nothing: it is mistyped, revoked or expired", error="invalid_token")
        if caller.key is None or caller.key.role not in roles:
            raise Problem(403, "this key may not do that")
        return caller

    return admit


def _unauthorised(detail: str, error: str | None = None) -> Problem:
    challenge = 'Bearer realm="holdfast"' + (f', error="{error}"' if error else "")
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})


def _bearer(scope: Scope) -> str | None:
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if not values:
        return None
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_from_here(scope: Scope) -> bool:
    """Whether a program of this machine calls directly, by this machine's own name."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    peer = scope.get("client")
    return (
        peer is not None
        and _is_loopback(peer[0])
        and _is_loopback(_host_name(headers.get(b"host", "")))
        and not any(name in headers for name in _FORWARDED)
        and headers.get(b"sec-fetch-site", "none") in ("none", "same-origin")
    )


def _host_name(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
