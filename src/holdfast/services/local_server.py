"""Looks after the local Postgres: who uses it starts it again when it died under them."""

import asyncio

from holdfast.errors import EmbeddedPostgresError
from holdfast.events import LocalServerDied, LocalServerStarted, Sinks
from holdfast.postgres.embedded import EmbeddedPostgres

LOOK_EVERY = 0.5
MOST_BACK_OFF = 30.0


class LocalServerKeeper:
    """Keeps a local server up while `run` runs. Several may look after the same one: starting it is done once."""

    def __init__(self, server: EmbeddedPostgres, sinks: Sinks, *, look_every: float = LOOK_EVERY) -> None:
        self._server = server
        self._sinks = sinks
        self._look_every = look_every

    async def run(self) -> None:
        """Look, and start it where it is gone; with back-off where it cannot be started. Ends by being cancelled."""
        pause = self._look_every
        while True:
            await asyncio.sleep(pause)
            pause = self._look_every if await self.step() else min(max(pause * 2, 1.0), MOST_BACK_OFF)

    async def step(self) -> bool:
        """One look; whether the server runs at its end."""
        if await asyncio.to_thread(lambda: self._server.pid) is not None:
            return True
        self._sinks.emit(LocalServerDied(str(self._server.data_dir)))
        try:
            await asyncio.to_thread(self._server.start)
        except EmbeddedPostgresError as error:
            self._sinks.emit(LocalServerDied(str(self._server.data_dir), str(error)))
            return False
        self._sinks.emit(LocalServerStarted(str(self._server.data_dir), self._server.pid))
        return True
