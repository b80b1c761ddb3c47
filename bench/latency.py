"""How soon a job runs that comes to an idle worker, and how soon a worker itself is there."""

import contextlib
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import servers, sides
from bench.harness import Row, workers

JOBS = 100


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        each = sides.Sides(dsn, start, stack.enter_context(sides.memory()))
        yield Latency(each).rows(), {**servers.versions(dsn), **sides.settings()}


class Latency:
    """One measurement of each side serves both rows: the halves and the worst."""

    def __init__(self, each: sides.Sides) -> None:
        self._each = each
        self._seen: dict[tuple[str, int], list[float]] = {}
        self._rounds: dict[tuple[str, float], int] = {}
        self._dice = random.Random(5)

    def rows(self) -> list[Row]:
        note = "each side with its notifications; one job at a time, 30 to 90 ms apart; enqueue included"
        return [
            Row("one job to an idle worker until its handler starts, p50", "ms", *self._sides(0.5), 1, False, note),
            Row("one job to an idle worker until its handler starts, p99", "ms", *self._sides(0.99), 1, False, note),
            Row("memory of an idle worker process", "MB", self._memory, target=100, least=False),
            Row("start of a worker until its first job runs", "s", self._start, target=1, least=False),
        ]

    def _sides(self, quantile: float) -> tuple[Any, dict[str, Any]]:
        options: dict[str, tuple[str, dict[str, int]]] = {
            "PgQueuer": ("pgqueuer", {"batch": 10}),
            "Procrastinate": ("procrastinate", {"concurrency": 10}),
            "pg-boss": ("boss", {"batch": 1}),
            "graphile-worker": ("graphile", {"batch": 0}),
        }
        peers = {
            name: lambda side=side, given=given: self._quantile(quantile, side, **given)
            for name, (side, given) in options.items()
        }
        return lambda: self._quantile(quantile, "ours", slots=10), peers

    def _quantile(self, quantile: float, name: str, **options: int) -> float:
        number = self._rounds[name, quantile] = self._rounds.get((name, quantile), 0) + 1
        if (name, number) not in self._seen:
            self._seen[name, number] = self._measured(getattr(self._each, name), **options)
        found = sorted(self._seen[name, number])
        return found[min(len(found) - 1, math.ceil(quantile * len(found)) - 1)]

    def _measured(self, side: sides.Side, **options: int) -> list[float]:
        side.ask(do="empty")
        with side.working(**options):
            side.ask(do="one", count=1)
            side.stamps(1)
            found = []
            for number in range(2, JOBS + 2):
                time.sleep(self._dice.uniform(0.03, 0.09))
                asked = side.ask(do="one", count=1)
                found.append((side.stamps(number)[-1] - asked["began"]) / 1e6)
        return found

    def _memory(self) -> float:
        with self._each.ours.working(slots=10) as process:
            self._each.ours.ask(do="one", count=1)
            self._each.ours.stamps(1)
            return max(_resident(pid) for pid in _family(process.pid) if _is_worker(pid))

    def _start(self) -> float:
        ours = self._each.ours
        ours.ask(do="empty")
        ours.ask(do="one", count=1)
        began = time.monotonic_ns()
        with ours.working(slots=10):
            return (ours.stamps(1)[0] - began) / 1e9


def _family(pid: int) -> Sequence[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(other for child in children for other in _family(child))]


def _is_worker(pid: int) -> bool:
    return b"holdfast.cli.child" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _resident(pid: int) -> float:
    """MB that are its own or shared, as the kernel counts them."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6
