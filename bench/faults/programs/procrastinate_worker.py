"""Procrastinate: `install`, `enqueue FIRST COUNT SECONDS AGAIN`, or `work` with settings from the environment."""

import asyncio
import json
import os
import sys

from notes import Notes
from procrastinate import App, PsycopgConnector

DSN = os.environ["DATABASE_URL"]
SETTINGS = json.loads(os.environ.get("SETTINGS", "{}"))
app = App(connector=PsycopgConnector(conninfo=DSN))
notes: list[Notes] = []


@app.task(name="fault", queue="bench", **SETTINGS.get("task", {}))
async def fault(job: str, seconds: float, again: float) -> None:
    await notes[0].work(job, seconds, again)


if SETTINGS.get("rescue"):
    # The recipe of its documentation, at the pace and the silence that are asked for.
    @app.periodic(cron=SETTINGS["rescue"]["cron"])
    @app.task(name="rescue", queueing_lock="rescue")
    async def rescue(timestamp: int) -> None:
        silence = SETTINGS["rescue"]["seconds_since_heartbeat"]
        for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=silence):
            await app.job_manager.retry_job(job)


async def work() -> None:
    notes.append(Notes(DSN))
    async with app.open_async():
        await app.run_worker_async(concurrency=10, **SETTINGS.get("worker", {}))


async def enqueue(first: int, count: int, seconds: float, again: float) -> None:
    jobs = [{"job": f"j{number}", "seconds": seconds, "again": again} for number in range(first, first + count)]
    async with app.open_async():
        await fault.batch_defer_async(*jobs)


async def install() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


match sys.argv[1:]:
    case ["install"]:
        asyncio.run(install())
    case ["enqueue", first, count, seconds, again]:
        asyncio.run(enqueue(int(first), int(count), float(seconds), float(again)))
    case _:
        asyncio.run(work())
