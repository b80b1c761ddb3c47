"""Presence: a service tells the ledger that it is here, so that people see what runs where, and with which settings."""

import asyncio
import contextlib

from holdfast.errors import DatabaseError
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.presence import Introduction, announce_service, withdraw_service

EVERY = 10.0
#: Seconds that the last word may take: the end of a service must not wait for the ledger.
LAST_WORD = 1.0


class Presence:
    """Announces one service until cancelled. Nothing depends on it, so a ledger that is away is no trouble."""

    def __init__(self, dsn: str, introduction: Introduction, *, every: float = EVERY) -> None:
        self._ledger = AsyncLedger(dsn, name=f"holdfast {introduction.name}", deadline=EVERY)
        self._introduction = introduction
        self._every = every

    async def run(self) -> None:
        """Announce each few seconds; at the end withdraw."""
        try:
            while True:
                with contextlib.suppress(DatabaseError):
                    await self.step()
                await asyncio.sleep(self._every)
        finally:
            with contextlib.suppress(DatabaseError):
                await self._ledger.call(withdraw_service(self._introduction.id), deadline=LAST_WORD)
            await self._ledger.close()

    async def step(self) -> None:
        """Announce once. Raises what the ledger raises."""
        await self._ledger.call(announce_service(self._introduction))
