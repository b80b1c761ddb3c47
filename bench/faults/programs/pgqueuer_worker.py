"""PgQueuer: `install`, `enqueue FIRST COUNT SECONDS AGAIN`, or `work` with settings from the environment."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pgqueuer
from notes import Notes
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

DSN = os.environ["DATABASE_URL"]
SETTINGS = json.loads(os.environ.get("SETTINGS", "{}"))


@contextlib.asynccontextmanager
async def worker() -> AsyncIterator[PgQueuer]:
    notes = Notes(DSN)
    if SETTINGS.get("pool"):
        async with asyncpg.create_pool(DSN, min_size=2, max_size=4) as pool:
            yield with_job(PgQueuer(AsyncpgPoolDriver(pool)), notes)
    else:
        connection = await asyncpg.connect(DSN)
        try:
            yield with_job(PgQueuer(AsyncpgDriver(connection)), notes)
        finally:
            await connection.close()


def with_job(made: PgQueuer, notes: Notes) -> PgQueuer:
    @made.entrypoint("fault")
    async def fault(job: Job) -> None:
        await notes.work(**json.loads(job.payload or b"{}"))

    return made


async def enqueue(first: int, count: int, seconds: float, again: float) -> None:
    connection = await asyncpg.connect(DSN)
    payloads = [
        json.dumps({"job": f"j{number}", "seconds": seconds, "again": again}).encode()
        for number in range(first, first + count)
    ]
    await Queries(AsyncpgDriver(connection)).enqueue(["fault"] * count, payloads, [0] * count)
    await connection.close()


async def install() -> None:
    connection = await asyncpg.connect(DSN)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


def work() -> None:
    seconds = {key: timedelta(seconds=value) for key, value in SETTINGS.get("seconds", {}).items()}
    others = SETTINGS.get("others", {})
    # 10 slots: it wants them to be at least twice the batch.
    asyncio.run(pgqueuer.run(worker, batch_size=5, max_concurrent_tasks=10, **seconds, **others))


match sys.argv[1:]:
    case ["install"]:
        asyncio.run(install())
    case ["enqueue", first, count, seconds, again]:
        asyncio.run(enqueue(int(first), int(count), float(seconds), float(again)))
    case _:
        work()
