"""What every Python system's job does: note its begin, sleep, note its end, in the database that it works on.

A note outlives the fault: it is tried again for a minute, so that no job fails because of its own notes.
"""

import asyncio
import os
import time
import uuid

import psycopg

NOTE = """
INSERT INTO faults.notes (job, run, pid, what, at)
VALUES (%s, %s, %s, %s, coalesce(to_timestamp(%s), clock_timestamp())) ON CONFLICT DO NOTHING
"""
EARLIER = "SELECT count(*) FROM faults.notes WHERE job = %s AND what = 'begin' AND run <> %s"


class Notes:
    """One connection of a worker process, made again whenever it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection | None = None
        self._lock = asyncio.Lock()
        self._cuts: set[asyncio.Task[int]] = set()

    async def work(self, job: str, seconds: float, again: float) -> None:
        """One run; `again`: how long a later run of the same job sleeps."""
        run = str(uuid.uuid4())
        try:
            earlier = await self._note(job, run, "begin")
            await asyncio.sleep(again if earlier else seconds)
            await self._note(job, run, "end")
        except asyncio.CancelledError:
            # Whoever cancels is not kept waiting; the time is that of the cancel, by the clock of the same machine.
            cut = asyncio.create_task(self._note(job, run, "cut", at=time.time()))
            self._cuts.add(cut)
            cut.add_done_callback(self._cuts.discard)
            raise

    async def _note(self, job: str, run: str, what: str, at: float | None = None) -> int:
        end = time.monotonic() + 60
        while True:
            try:
                async with self._lock, asyncio.timeout(10):
                    return await self._write(job, run, what, at)
            except (psycopg.Error, OSError, TimeoutError):
                self._connection = None
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)

    async def _write(self, job: str, run: str, what: str, at: float | None) -> int:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5)
        await self._connection.execute(NOTE, (job, run, os.getpid(), what, at))
        row = await (await self._connection.execute(EARLIER, (job, run))).fetchone()
        return int(row[0]) if row else 0
