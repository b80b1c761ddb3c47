"""Our side of the groups about jobs, in a process of its own; enqueues when asked (see bench/harness.py)."""

import asyncio
import itertools
import json
import sys
import time
from typing import Any

import psycopg

from bench.jobs_app import noop, sleep
from holdfast import Holdfast
from holdfast.core.bell import Bell
from holdfast.handles import JobKind
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.bell_lines import BellLines

DSN = sys.argv[1]
PAYLOAD = "x" * 185

hf = Holdfast(DSN)
lines_by_ledger: dict[AsyncLedger, BellLines] = {}
ours = JobKind(hf, noop.kind)
sleeping = JobKind(hf, sleep.kind)


async def answer(what: dict[str, Any]) -> dict[str, float]:
    count = what.get("count", 0)
    began_at, began = time.monotonic_ns(), time.perf_counter()
    match what["do"]:
        case "empty":
            sql("TRUNCATE holdfast.jobs, holdfast.job_events")
        case "vacuum":
            sql("VACUUM ANALYZE holdfast.jobs")
        case "many":
            handles = await hf.enqueue_many(ours.prepare(payload=PAYLOAD) for _ in range(count))
            assert len({handle.id for handle in handles}) == count
        case "sleeping":
            await hf.enqueue_many(sleeping.prepare(seconds=what["seconds"]) for _ in range(count))
        case "one":
            for _ in range(count):
                await ours.enqueue(payload=PAYLOAD)
        case "unheard":
            # What NOTIFY would tell is not told: the bell over SQS is all that there is.
            client = await hf._open()
            lines = lines_by_ledger.setdefault(client.ledger, BellLines(client.ledger, hf.settings.bell_routes()))
            for _ in range(count):
                await client.ledger.call(calls.enqueue_many([ours.prepare(payload=PAYLOAD)]))
                assert (await lines.ring([Bell("bench")])).sent == 1
        case "callers":
            numbers = itertools.count()

            async def caller() -> None:
                while next(numbers) < count:
                    await ours.enqueue(payload=PAYLOAD)

            await asyncio.gather(*[caller() for _ in range(what["callers"])])
        case "left":
            return {"left": sql("SELECT count(*) FROM holdfast.jobs WHERE status IN ('queued', 'running')")}
    return {"rate": count / (time.perf_counter() - began), "began": began_at}


def sql(statement: str) -> Any:
    with psycopg.connect(DSN, autocommit=True) as connection:
        found = connection.execute(statement.encode())
        return found.fetchone()[0] if found.description else None  # type: ignore[index]


async def serve() -> None:
    # In a thread: a loop that stands still rings no bells.
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await answer(json.loads(line))), flush=True)


asyncio.run(serve())
