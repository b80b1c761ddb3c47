"""The bell over Postgres: NOTIFY says "queue Q has work", LISTEN hears it. A bell that is lost costs only time.

Workers poll as well, so nothing depends on it; behind a transaction pooler, where LISTEN hears nothing, it is off.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import psycopg

from holdfast.errors import DatabaseError
from holdfast.postgres.connection import connect_async, translated
from holdfast.postgres.dsn import is_pooled

CHANNEL = "holdfast_bell"
PAUSE = 5.0


class Bell:
    """Calls `rung` whenever one of `queues` has work."""

    def __init__(self, dsn: str, queues: Sequence[str], rung: Callable[[], None]) -> None:
        self._dsn = dsn
        self._queues = frozenset(queues)
        self._rung = rung

    async def listen(self, name: str) -> None:
        """Listen until cancelled, on a connection of its own, which is opened again whenever it breaks."""
        while not is_pooled(self._dsn):
            with contextlib.suppress(DatabaseError, psycopg.Error):
                await self._listen_once(name)
            await asyncio.sleep(PAUSE)

    async def _listen_once(self, name: str) -> None:
        connection = await connect_async(self._dsn, application_name=name)
        try:
            if is_pooled(self._dsn):  # which this connection may just have found out
                return
            with translated(self._dsn):
                await connection.execute(f"LISTEN {CHANNEL}")
                self._rung()
                async for notice in connection.notifies():
                    if notice.payload in self._queues:
                        self._rung()
        finally:
            connection.pgconn.finish()
