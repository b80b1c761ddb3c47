"""Who calls, and what they may do.

A key comes in `Authorization: Bearer hf_...` (RFC 6750), never in a URL. A token of the issuer that is set
(JSON Web Token) comes there too, and one of its claims names the role. Without any key ever made, an API that listens
on this machine only serves this machine's own callers without one: not a browser page of another site
(`Sec-Fetch-Site`), not a name that was bent to point here (`Host`), nothing that a proxy passes on. As soon as the
first key is made, everybody needs one.

People sign in to the dashboard with a session, whose secret is in a cookie that only goes there. A session, unlike a
key, is sent by the browser whoever asks for the request: what changes anything must come from a page of this site.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.core.access import CHANGES, Permission, may, who_may
from holdfast.core.api_keys import PREFIX, Role
from holdfast.errors import DatabaseError, DatabaseUnavailable
from holdfast.services.issuer import Holder, Issuer, KeysNotRead
from holdfast.services.keyring import Key, KeyRing
from holdfast.services.sessions import Session, Sessions
from holdfast.web.cookies import session_text
from holdfast.web.identity import Identify, Network
from holdfast.web.origin import is_from_this_site, names
from holdfast.web.problems import Problem, unavailable
from holdfast.web.services import services_of

_PLACE = "holdfast.caller"
#: Seconds that probes and health wait for a key that is not known yet: a look for it, and a little.
_PROMPT = 1.5
_SAFE = ("GET", "HEAD")
READ_ONLY = "this Holdfast is in read-only mode (HOLDFAST_READ_ONLY): nothing is changed through it"
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request. `identity` is what limits are counted by; `access` what was found of their key.

    `address` is where they are, as far as it may be believed.
    """

    identity: str
    access: Literal["key", "token", "session", "open", "none", "invalid", "unknown"]
    key: Key | None = None
    session: Session | None = None
    holder: Holder | None = None
    address: str = ""

    @property
    def role(self) -> Role | None:
        """What they are; this machine may do all while nobody has made a key."""
        known = self.key or self.session or self.holder
        if known is not None:
            return known.role
        return Role.ADMIN if self.access == "open" else None

    @property
    def actor(self) -> str:
        """Who they are, for people."""
        if self.session is not None:
            return self.session.actor
        if self.holder is not None:
            return f"user {self.holder.email or self.holder.subject}"
        return f"key {self.key.name} ({self.key.id})" if self.key else "this machine, without a key"

    def may(self, permission: Permission) -> bool:
        """Whether their role may do that."""
        return self.role is not None and may(self.role, permission)

    @property
    def is_stranger(self) -> bool:
        """Whether they are known to be nobody who may do anything."""
        return self.access in ("none", "invalid")

    @property
    def may_look(self) -> bool:
        """Whether they may see more than a status."""
        return self.access in ("key", "token", "session", "open")


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
        sessions: Sessions,
        issuer: Issuer,
        is_private: bool,
        trusted: Sequence[Network] = (),
        prompt: Collection[str] = (),
    ) -> None:
        self._app = app
        self._ring = ring
        self._sessions = sessions
        self._issuer = issuer
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
            text = session_text(scope)
            return await (self._in_session(text, address, scope) if text else self._without_key(scope, address))
        if self._issuer.is_used and not token.startswith(f"{PREFIX}_"):
            return self._with_token(token, address)
        try:
            async with asyncio.timeout(_PROMPT if scope["path"] in self._prompt else None):
                key = await self._ring.authenticate(token)
        except (DatabaseUnavailable, TimeoutError):
            return Caller(address, "unknown", address=address)
        if key is None:
            return Caller(address, "invalid", address=address)
        return Caller(f"key:{key.id}", "key", key, address=address)

    def _with_token(self, token: str, address: str) -> Caller:
        try:
            holder = self._issuer.find(token)
        except KeysNotRead:
            return Caller(address, "unknown", address=address)
        if holder is None:
            return Caller(address, "invalid", address=address)
        return Caller(f"user:{holder.subject}", "token", holder=holder, address=address)

    async def _in_session(self, text: str, address: str, scope: Scope) -> Caller:
        try:
            session = await self._sessions.find(text)
        except DatabaseError:
            return Caller(address, "unknown", address=address)
        if session is None:
            return await self._without_key(scope, address)
        return Caller(f"session:{session.id}", "session", session=session, address=address)

    async def _without_key(self, scope: Scope, address: str) -> Caller:
        access: Literal["open", "none", "unknown"] = "none"
        if self._is_private and _is_from_here(scope):
            if self._ring.in_use is None and scope["path"] not in self._prompt:
                await self._ring.first_look(_PROMPT)
            access = "unknown" if self._ring.in_use is None else "none" if self._ring.in_use else "open"
        return Caller(address, access, address=address)


def require(permission: Permission) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets in callers who may do that, or whoever needs no key here."""

    async def admit(request: Request) -> Caller:
        caller = caller_of(request.scope)
        if not caller.may_look:
            raise _stranger(caller)
        if not caller.may(permission):
            raise Problem(
                403, f"{caller.actor} has the role {caller.role}; to {permission} takes {who_may(permission)}"
            )
        if permission in CHANGES and services_of(request).settings.read_only:
            raise Problem(403, READ_ONLY)
        if caller.access == "session" and request.method not in _SAFE and not is_from_this_site(request.scope):
            raise Problem(403, "this did not come from a page of this dashboard, so nothing was done")
        return caller

    return admit


def _stranger(caller: Caller) -> Problem:
    if caller.access == "unknown":
        return unavailable("your key cannot be checked now; try again")
    if caller.access == "invalid":
        return _unauthorised("this key opens nothing: it is mistyped, revoked or expired", error="invalid_token")
    return _unauthorised("send a key as Authorization: Bearer hf_...; make one with: holdfast keys create")


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
        and _is_no_other_site(headers)
    )


def _is_no_other_site(headers: dict[bytes, str]) -> bool:
    """Programs say nothing; browsers say which site asks, older ones at least with what may change something."""
    site = headers.get(b"sec-fetch-site")
    if site is None and b"origin" in headers:
        return names(headers[b"origin"], headers.get(b"host", ""))
    return site in (None, "none", "same-origin")


def _host_name(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
