"""Bells over SQS: what they cost beside the ledger's own, how soon they wake, and Celery over the same server."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench import servers, sides
from bench.harness import HERE, Row, Worker, python_peers, workers
from holdfast.cli.demo_sqs import SqsServer
from holdfast.cli.local_sqs import ACCOUNT, PACKAGE, prepare
from holdfast.sqs.client import Sqs

CELERY = "celery[sqs]==5.7.0"
MANY, MANY_CELERY, LATENCIES, SLOTS = 20_000, 1000, 60, 1000
#: Seconds until a worker that was started is idle, and listens.
SETTLED = 3.0


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        memory = stack.enter_context(sides.memory())
        endpoint = stack.enter_context(sqs_server())
        rungs = _Sqs(endpoint)
        made = _Made(dsn, start, memory, rungs)
        yield _rows(made, rungs), {**servers.versions(dsn), **_settings()}


def _settings() -> dict[str, str]:
    return {
        "server": PACKAGE, "peers": CELERY, "jobs": "a no-op with a 200-byte payload",
        "Celery": "its solo pool without a prefetch limit; others were no quicker",
    }  # fmt: skip


@contextlib.contextmanager
def sqs_server() -> Iterator[str]:
    """A local SQS server; its endpoint."""
    plan = prepare()
    server = SqsServer(plan)
    asyncio.run(server.start())
    try:
        yield f"http://127.0.0.1:{plan.port}"
    finally:
        server.stop()


class _Sqs:
    """Queues on one server, and how long a bare message takes."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def queue(self, name: str) -> str:
        async def make() -> str:
            sqs = Sqs(self._endpoint)
            try:
                return await sqs.create(name, {"VisibilityTimeout": "60"}, {"holdfast": "bell"})
            finally:
                await sqs.close()

        asyncio.run(make())
        return f"{self._endpoint}/{ACCOUNT}/{name}"

    def bare(self) -> float:
        """From send to receive, ms, by the same client: the median."""
        return asyncio.run(self._bare(self.queue("bare")))

    async def _bare(self, url: str) -> float:
        sender, receiver, dice, found = Sqs(url), Sqs(url), random.Random(5), list[float]()
        for _ in range(LATENCIES):
            polling = asyncio.create_task(receiver.receive(url, wait=5))
            await asyncio.sleep(dice.uniform(0.03, 0.09))
            began = time.monotonic_ns()
            await sender.send(url, ["one"])
            messages = await polling
            found.append((time.monotonic_ns() - began) / 1e6)
            await receiver.delete(url, [message.receipt for message in messages])
        await sender.close()
        await receiver.close()
        return _median(found)


class _Made:
    """The sides, each made when it is first asked for."""

    def __init__(self, dsn: str, start: Callable[..., Worker], memory: Path, sqs: _Sqs) -> None:
        self._dsn, self._start, self._memory, self._sqs = dsn, start, memory, sqs
        self._found: dict[str, sides.Side] = {}

    def of(self, name: str) -> sides.Side:
        if name not in self._found:
            runs = self._memory / name
            runs.write_bytes(b"")
            self._found[name] = getattr(self, f"_{name}")(runs)
        return self._found[name]

    def _ledger(self, runs: Path) -> sides.Side:
        return sides.ours(self._dsn, self._start, runs)

    def _sqs_bells(self, runs: Path) -> sides.Side:
        """A worker that looks by itself each half minute only: what wakes it is the bell."""
        variables = {"HOLDFAST_SQS_QUEUE_URL": self._sqs.queue("bells"), "HOLDFAST_POLL": "30"}
        side = sides.ours(self._dsn, lambda *command: self._start(*command, **variables), runs)
        return replace(side, environment={**side.environment, **variables})

    def _celery(self, runs: Path) -> sides.Side:
        program, url = str(HERE / "peers" / "celery_jobs.py"), self._sqs.queue("celery")
        command = [python_peers(CELERY, name="celery"), program, url, str(runs)]
        return sides.Side("Celery", url, runs, self._start(*command), lambda **_: [*command, "work", "solo", "1"])


def _rows(made: _Made, sqs: _Sqs) -> list[Row]:
    def ours() -> float:
        return _rate(made.of("sqs_bells"), MANY, slots=SLOTS)

    def bell() -> float:
        return _latency(made.of("sqs_bells"), "unheard", slots=10)

    return [
        Row(
            "jobs that come to a running worker, rung over SQS too, against the ledger's own bell alone",
            "jobs a second",
            ours,
            {"the ledger's": lambda: _rate(made.of("ledger"), MANY, slots=SLOTS)},
            0.9,
            note="enqueued in thousands while the worker runs",
        ),
        Row(
            "one worker process, against Celery",
            "jobs a second",
            ours,
            {"Celery": lambda: _rate(made.of("celery"), MANY_CELERY)},
            note=f"Celery's {MANY_CELERY:,} messages are sent one by one, and drained with its worker started after",
        ),
        Row(
            "from enqueue until the handler starts, by a bell over SQS alone, against bare send to receive, p50",
            "ms",
            bell,
            {"bare": sqs.bare},
            2,
            False,
            "nothing is told by NOTIFY, and the worker polls each 30 s; one job at a time, 30 to 90 ms apart",
        ),
        Row(
            "from enqueue until the handler starts, by a bell over SQS alone, against Celery, p50",
            "ms",
            bell,
            {"Celery": lambda: _latency(made.of("celery"), "one")},
            1,
            False,
        ),
    ]


def _rate(side: sides.Side, count: int, **options: int) -> float:
    if side.name == "Celery":
        return side.drain(count, lambda: side.ask(do="many", count=count), all_of_it=True)
    side.ask(do="empty")
    with side.working(settled=SETTLED, **options):
        side.ask(do="many", count=count)
        stamps = side.stamps(count)
    return (count - 1) / ((stamps[-1] - stamps[0]) / 1e9)


def _latency(side: sides.Side, how: str, **options: int) -> float:
    dice, found = random.Random(5), list[float]()
    side.ask(do="empty")
    with side.working(**options):
        side.ask(do="one", count=1)
        side.stamps(1)
        time.sleep(1)  # the long poll that it goes on with is under way
        for number in range(2, LATENCIES + 2):
            time.sleep(dice.uniform(0.03, 0.09))
            asked = side.ask(do=how, count=1)
            found.append((side.stamps(number)[-1] - asked["began"]) / 1e6)
    return _median(found)


def _median(found: list[float]) -> float:
    return sorted(found)[math.ceil(len(found) / 2) - 1]
