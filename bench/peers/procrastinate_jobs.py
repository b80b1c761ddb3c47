"""Procrastinate: enqueues when asked (see bench/harness.py), or, with `work`, is a worker until it is stopped."""

import asyncio
import json
import os
import sys
import time
from typing import Any

import psycopg
from procrastinate import App, PsycopgConnector

DSN, RUNS = sys.argv[1:3]
PAYLOAD = "x" * 185
app = App(connector=PsycopgConnector(conninfo=DSN))
runs = os.open(RUNS, os.O_WRONLY | os.O_APPEND)


@app.task(name="noop", queue="bench")
async def noop(payload: str) -> None:
    os.write(runs, b"%020d\n" % time.monotonic_ns())


async def work(concurrency: int) -> None:
    async with app.open_async():
        await app.run_worker_async(queues=["bench"], concurrency=concurrency)


async def answer(what: dict[str, Any]) -> dict[str, float]:
    count = what.get("count", 0)
    began_at, began = time.monotonic_ns(), time.perf_counter()
    match what["do"]:
        case "install":
            await app.schema_manager.apply_schema_async()
        case "empty" | "left":
            async with await psycopg.AsyncConnection.connect(DSN, autocommit=True) as connection:
                if what["do"] == "empty":
                    await connection.execute("TRUNCATE procrastinate_jobs CASCADE")
                    return {}
                unfinished = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
                (left,) = await (await connection.execute(unfinished)).fetchone() or (0,)
                return {"left": left}
        case "many":
            for start in range(0, count, 1000):
                few = min(1000, count - start)
                await noop.batch_defer_async(*[{"payload": PAYLOAD}] * few)
            async with await psycopg.AsyncConnection.connect(DSN, autocommit=True) as connection:
                await connection.execute("VACUUM ANALYZE procrastinate_jobs")
        case "one":
            for _ in range(count):
                await noop.defer_async(payload=PAYLOAD)
    return {"rate": count / (time.perf_counter() - began), "began": began_at}


async def serve() -> None:
    async with app.open_async():
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await answer(json.loads(line))), flush=True)


asyncio.run(work(int(sys.argv[4])) if sys.argv[3:4] == ["work"] else serve())
