"""Sessions of the dashboard: made, checked and ended. What was read of one counts for some seconds.

So long a session that was ended elsewhere, or whose key was revoked, still opens; and while the ledger is away those
that are known go on: an outage must not lock out whoever looks into it.
"""

import base64
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from holdfast.core.api_keys import Role, hash_secret, is_secret
from holdfast.errors import DatabaseError
from holdfast.postgres import sessions
from holdfast.postgres.ledger import Executor
from holdfast.postgres.sessions import Redeemed, SessionRow

#: Seconds: that what was read counts, that a session lasts, and that a sign-in link waits to be used.
KNOWN_FOR = 10.0
LASTS = 12 * 3600.0
LINK_LASTS = 3600.0
#: Sessions that one process remembers.
MOST = 1000


@dataclass(frozen=True)
class Session:
    """Somebody who is signed in. `actor` is what people read of them."""

    id: str
    role: Role
    actor: str
    key_id: str | None


@dataclass(frozen=True)
class _Known:
    row: SessionRow
    read_at: float
    until: float


@dataclass(frozen=True)
class NewSecret:
    """The text that opens something, of which only the hash is kept."""

    id: str
    text: str
    secret_hash: str


def make_secret() -> NewSecret:
    """A new one: 40 bits that name it, and 256 of chance."""
    id = base64.b32encode(secrets.token_bytes(5)).decode().lower()
    secret = secrets.token_urlsafe(32)
    return NewSecret(id, f"{id}.{secret}", hash_secret(secret))


class Sessions:
    """The sessions of one ledger, as one process of the API knows them."""

    def __init__(self, ledger: Executor, *, known_for: float = KNOWN_FOR) -> None:
        self._ledger = ledger
        self._known_for = known_for
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def begin(self, role: Role, actor: str, key_id: str | None = None, *, lasts: float = LASTS) -> str:
        """A new session; the text that opens it, shown once."""
        return await self._make("session", role, actor, key_id, lasts)

    async def make_link(self, role: Role, actor: str, *, lasts: float = LINK_LASTS) -> str:
        """A code that begins one session, once."""
        return await self._make("link", role, actor, None, lasts)

    async def redeem(self, code: str) -> Redeemed | None:
        """Use up the code of a link; None where it opens nothing (any more)."""
        id, secret = _parts(code)
        found = await self._ledger.call(sessions.redeem_link(id, hash_secret(secret))) if secret else []
        return found[0] if found else None

    async def find(self, text: str) -> Session | None:
        """Whose session this text opens; None where it opens nothing.

        Raises `DatabaseError` where that is not known.
        """
        id, secret = _parts(text)
        if not secret:
            return None
        known = self._known.get(id)
        if known is None or known.read_at + self._known_for < time.monotonic():
            known = await self._read(id, known)
        if known is None or known.until < time.monotonic() or not is_secret(secret, known.row.secret_hash):
            return None
        return Session(id, Role(known.row.role), known.row.actor, known.row.key_id)

    async def end(self, id: str) -> None:
        """Sign out."""
        self._known.pop(id, None)
        await self._ledger.call(sessions.end_session(id))

    async def _make(
        self, kind: Literal["link", "session"], role: Role, actor: str, key_id: str | None, lasts: float
    ) -> str:
        made = make_secret()
        await self._ledger.call(
            sessions.create_session(
                made.id, kind, made.secret_hash, role=role, actor=actor, key_id=key_id, valid_for=lasts
            )
        )
        return made.text

    async def _read(self, id: str, known: _Known | None) -> _Known | None:
        try:
            found = await self._ledger.call(sessions.read_session(id))
        except DatabaseError:
            if known is None:
                raise
            return known
        if not found or found[0].role not in frozenset(Role):
            self._known.pop(id, None)
            return None
        now = time.monotonic()
        self._known[id] = _Known(found[0], now, now + found[0].valid_for)
        self._known.move_to_end(id)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return self._known[id]


def _parts(text: str) -> tuple[str, str]:
    id, _, secret = text.partition(".")
    return (id, secret) if len(id) == 8 and len(secret) == 43 else ("", "")
