"""What every Python system's job does: note its begin, sleep, note its end, in the database that it works on.

A note outlives the fault: it is tried again for a minute, so that no job fails because of its own notes.
"""

import asyncio
import os
import time
import uuid

import psycopg

NOTE = """
INSERT INTO faults.notes (job, run, pid, what) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
EARLIER = "SELECT count(*) FROM faults.notes WHERE job = %s AND what = 'begin' AND run <> %s"


class Notes:
    """One connection of a worker process, made again whenever it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection | None = None
        self._lock = asyncio.Lock()

    async def work(self, job: str, seconds: float, again: float) -> None:
        """One run; `again`: how long a later run of the same job sleeps."""
        run = str(uuid.uuid4())
        earlier = await self._note(job, run, "begin")
        try:
            await asyncio.sleep(again if earlier else seconds)
        except asyncio.CancelledError:
            await self._note(job, run, "cut", within=1.0)
            raise
        await self._note(job, run, "end")

    async def _note(self, job: str, run: str, what: str, within: float = 60.0) -> int:
        end = time.monotonic() + within
        while True:
            try:
                async with self._lock, asyncio.timeout(10):
                    return await self._write(job, run, what)
            except (psycopg.Error, OSError, TimeoutError):
                self._connection = None
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)

    async def _write(self, job: str, run: str, what: str) -> int:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5)
        await self._connection.execute(NOTE, (job, run, os.getpid(), what))
        row = await (await self._connection.execute(EARLIER, (job, run))).fetchone()
        return int(row[0]) if row else 0
