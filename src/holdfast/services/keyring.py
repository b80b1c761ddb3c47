"""The key ring: checks API keys in memory, so that a request asks nobody who its caller is.

The valid keys are read again every few seconds; that is how long a revoked one still opens. A key that is not known
here may have been made a moment ago, so it is looked for at once, by all who wait together and at most once a second.
While the ledger is away the ring goes on with the keys it knows: an outage must not lock out whoever looks into it.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from holdfast.core.api_keys import Role, is_secret, parse_key
from holdfast.errors import DatabaseError, DatabaseUnavailable
from holdfast.postgres import keys
from holdfast.postgres.ledger import Executor
from holdfast.services.background import LONGEST_TURN, Background

_log = logging.getLogger("holdfast")

#: Seconds: between two reads of all keys, and between two looks for unknown ones or for the first key of all.
EVERY = 10.0
LOOK_EVERY = 1.0
#: A role that this version does not know opens nothing.
_ROLES = frozenset(Role)


@dataclass(frozen=True)
class Key:
    """A valid key."""

    id: str
    name: str
    role: Role


@dataclass(frozen=True)
class _Known:
    key: Key
    secret_hash: str
    until: float


class KeyRing:
    """Knows the valid keys. `in_use`: whether anybody ever made one; None while that is not known."""

    def __init__(
        self,
        ledger: Executor,
        *,
        every: float = EVERY,
        look_every: float = LOOK_EVERY,
        turns_within: float = LONGEST_TURN,
    ) -> None:
        self.loop = Background("keys", within=turns_within)
        self._ledger = ledger
        self._every = every
        self._look_every = look_every
        self._known: dict[str, _Known] = {}
        self._used: set[str] = set()
        self._looked_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self.in_use: bool | None = None

    async def start(self) -> None:
        """Begin to read; returns at once."""
        self.loop.start(self._run())

    async def stop(self) -> None:
        """End; the use of keys that was not noted yet is noted, if the ledger answers."""
        if self.loop.is_running:
            await self.loop.stop()
            with contextlib.suppress(DatabaseError):
                await self._note_use()

    async def authenticate(self, token: str) -> Key | None:
        """Whose key this is; None where it opens nothing.

        Raises `DatabaseUnavailable` for a key that is not known here while the ledger cannot be asked for it.
        """
        parsed = parse_key(token)
        if parsed is None:
            return None
        id, secret = parsed
        if id not in self._known:
            began_before = self._reading is not None
            await self._look()
            if began_before and id not in self._known:
                await self._look()  # the key may have been made after that look at the ledger
        known = self._known.get(id)
        if known is None or known.until < time.monotonic() or not is_secret(secret, known.secret_hash):
            return None
        self._used.add(id)
        return known.key

    async def first_look(self, patience: float) -> None:
        """Wait until the keys have been read once, or for so many seconds: who calls as it starts is not sent away."""
        with contextlib.suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(patience):
                await self._look()

    async def step(self) -> None:
        """Read all keys, and note which were used. Raises what the ledger raises."""
        entries = await self._ledger.call(keys.key_ring())
        now = time.monotonic()
        self._known = {
            entry.id: _Known(
                Key(entry.id, entry.name, Role(entry.role)),
                entry.secret_hash,
                float("inf") if entry.valid_for is None else now + entry.valid_for,
            )
            for entry in entries
            if entry.role in _ROLES
        }
        self.in_use = any(not entry.id for entry in entries)
        await self._note_use()

    async def _note_use(self) -> None:
        used, self._used = self._used, set()
        if used:
            await self._ledger.call(keys.note_api_key_use(sorted(used)))

    async def _look(self) -> None:
        """Read the keys again, together with whoever else waits for that."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_soon())
            self._reading.add_done_callback(_heard)
        await asyncio.shield(self._reading)

    async def _read_soon(self) -> None:
        try:
            await asyncio.sleep(self._looked_at + self._look_every - time.monotonic())
            self._looked_at = time.monotonic()
            await self.step()
        except DatabaseUnavailable:
            raise
        except DatabaseError as error:
            raise DatabaseUnavailable(f"the keys cannot be read: {error}") from error
        finally:
            self._reading = None

    async def _run(self) -> None:
        while True:
            self.loop.turned()
            try:
                await self._look()
            except DatabaseError:
                pass  # the ring goes on with what it knows; that the ledger is away is told elsewhere
            except Exception:
                _log.exception("the keys could not be read, for an unforeseen reason")
            await asyncio.sleep(self._every if self.in_use else self._look_every)


def _heard(reading: "asyncio.Task[None]") -> None:
    """Whoever waited may have left; then nobody else asks how it ended."""
    if not reading.cancelled():
        reading.exception()
