"""Processing: how many jobs a second workers run, beside their peers and beside bare SQL."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator

from bench import servers, sides
from bench.harness import HERE, Row, Worker, workers

MANY = 50_000
#: What serves us best at the largest rates; everybody's was tried before.
SLOTS = 1000


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        each = sides.Sides(dsn, start, stack.enter_context(sides.memory()))
        bare = [start(sys.executable, str(HERE / "bare_sql.py"), dsn) for _ in range(2)]
        yield _rows(each, bare), {**servers.versions(dsn), **sides.settings(), "slots": f"{SLOTS:,}"}


def _rows(each: sides.Sides, bare: list[Worker]) -> list[Row]:
    def one() -> float:
        return each.ours.drain(MANY, slots=SLOTS)

    def two() -> float:
        return each.ours.drain(MANY, slots=SLOTS, processes=2)

    return [
        Row(
            "one worker process, against PgQueuer at batch 500",
            "jobs a second",
            one,
            {"PgQueuer": lambda: each.pgqueuer.drain(MANY, batch=500)},
            2,
            note="PgQueuer with a pool of 4 connections and uvloop",
        ),
        Row(
            "one worker process, against Procrastinate",
            "jobs a second",
            one,
            {"Procrastinate": lambda: each.procrastinate.drain(1000, concurrency=30)},
            40,
            note="Procrastinate with concurrency 30; 1,000 jobs",
        ),
        Row(
            "one worker process, against pg-boss at batch 1,000",
            "jobs a second",
            one,
            {"pg-boss": lambda: each.boss.drain(MANY, batch=1000)},
            1.3,
        ),
        Row(
            "two worker processes, against graphile-worker with its local queue",
            "jobs a second",
            two,
            {"graphile-worker": lambda: each.graphile.drain(MANY, batch=500)},
            1,
            note="graphile-worker with 24 concurrent jobs, a local queue of 500 and batched completion",
        ),
        Row(
            "two worker processes, against bare batched claim-and-finish SQL on two connections",
            "jobs a second",
            two,
            {"bare SQL": lambda: claim_and_finish(bare)},
            0.6,
            note="bare SQL without leases, events or validation, in batches of 100",
        ),
        Row(
            "jobs that take 10 ms, 100 slots (ideal: 10,000)",
            "jobs a second",
            lambda: each.ours.drain(
                20_000, fill=lambda: each.ours.ask(do="sleeping", count=20_000, seconds=0.01), slots=100
            ),
            target=9000,
        ),
        Row(
            "jobs that take 10 ms, 100 slots, against tasks of asyncio that nobody stores",
            "jobs a second",
            lambda: each.ours.drain(
                20_000, fill=lambda: each.ours.ask(do="sleeping", count=20_000, seconds=0.01), slots=100
            ),
            {"asyncio": lambda: asyncio.run(tasks(20_000, at_once=100, seconds=0.01))},
            0.9,
            note="asyncio rounds waits up to whole milliseconds, so nobody comes to 10,000",
        ),
    ]


async def tasks(count: int, *, at_once: int, seconds: float) -> float:
    """As many tasks a second as one event loop runs, so many at a time, when each sleeps and that is all."""
    free = asyncio.Semaphore(at_once)

    async def one() -> None:
        await asyncio.sleep(seconds)
        free.release()

    began = time.monotonic()
    for _ in range(count):
        await free.acquire()
        asyncio.get_running_loop().create_task(one())
    for _ in range(at_once):
        await free.acquire()
    return count / (time.monotonic() - began)


def claim_and_finish(bare: list[Worker]) -> float:
    """Bare SQL in two processes at once."""
    bare[0].ask(do="fill", count=MANY)
    for worker in bare:
        worker.begin(do="drain")
    found = [worker.result() for worker in bare]
    return sum(each["jobs"] for each in found) / (
        max(each["end"] for each in found) - min(each["begin"] for each in found)
    )
