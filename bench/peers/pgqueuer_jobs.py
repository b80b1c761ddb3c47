"""PgQueuer: enqueues when asked (see bench/harness.py), or, with `work`, is a worker until it is stopped."""

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

DSN, RUNS = sys.argv[1:3]
PAYLOAD = json.dumps({"payload": "x" * 185}).encode()


async def work(batch: int) -> None:
    runs = os.open(RUNS, os.O_WRONLY | os.O_APPEND)
    async with asyncpg.create_pool(DSN, min_size=2, max_size=4) as pool:
        worker = PgQueuer(AsyncpgPoolDriver(pool))

        @worker.entrypoint("noop")
        async def noop(job: Job) -> None:
            os.write(runs, b"%020d\n" % time.monotonic_ns())

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.shutdown.set)
        await worker.run(batch_size=batch)


async def answer(connection: asyncpg.Connection, what: dict[str, Any]) -> dict[str, float]:
    queries = Queries(AsyncpgDriver(connection))
    count = what.get("count", 0)
    began_at, began = time.monotonic_ns(), time.perf_counter()
    match what["do"]:
        case "install":
            await queries.install()
        case "empty":
            await queries.clear_queue()
            await connection.execute("TRUNCATE pgqueuer_log")
            await connection.execute("VACUUM ANALYZE pgqueuer")
        case "many":
            for start in range(0, count, 1000):
                few = min(1000, count - start)
                await queries.enqueue(["noop"] * few, [PAYLOAD] * few, [0] * few)
        case "one":
            for _ in range(count):
                await queries.enqueue("noop", PAYLOAD)
        case "left":
            return {"left": await connection.fetchval("SELECT count(*) FROM pgqueuer")}
    seconds = time.perf_counter() - began
    return {"rate": count / seconds, "began": began_at}


async def serve() -> None:
    connection = await asyncpg.connect(DSN)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await answer(connection, json.loads(line))), flush=True)


uvloop.run(work(int(sys.argv[4])) if sys.argv[3:4] == ["work"] else serve())
