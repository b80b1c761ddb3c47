"""Ten minutes at 70 % of what a worker can do beside its enqueuer, with a snapshot held open elsewhere for two of them.

A snapshot that is held (a report, a backup, a forgotten transaction) keeps all dead rows alive, and whatever walks over
them gets slower by the minute. `./bench/soak --minutes 3` scales all times, for a first look.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

import psycopg

from bench import servers, sides
from bench.harness import HERE, NotRun, Result, Worker, merge, shown, workers

SLOTS, SHARE = 1000, 0.7
#: Jobs that wait at most while the maximum is looked for, and seconds for which it is.
CROWD, SEARCH = 10_000, 20.0
#: Jobs that wait for bare SQL: more than it can do.
BARE = 1_000_000
#: The part of the time in which a snapshot is held.
HELD = (0.4, 0.6)


class Soak:
    """One worker and one enqueuer on one ledger."""

    def __init__(self, ours: sides.Side) -> None:
        self._ours = ours
        self._fed = 0

    def done(self) -> int:
        return self._ours.runs.stat().st_size // 21

    def maximum(self) -> float:
        """Jobs a second, while there is always work and never much."""
        end, before, began = time.monotonic() + SEARCH, 0, 0.0
        while time.monotonic() < end:
            if self._fed - self.done() < CROWD:
                self._feed(2000)
            if not began and time.monotonic() > end - SEARCH / 2:
                before, began = self.done(), time.monotonic()
        return (self.done() - before) / (time.monotonic() - began)

    def drain(self) -> None:
        end = time.monotonic() + 60
        while self.done() < self._fed and time.monotonic() < end:
            time.sleep(0.05)

    def steady(self, rate: float, seconds: float, hold: Callable[[float], None]) -> list[int]:
        """Feed at this rate; how many jobs had run at each second. `hold` is told the time that has passed."""
        began, first, seen = time.monotonic(), self.done(), list[int]()
        while (passed := time.monotonic() - began) < seconds:
            hold(passed)
            if passed >= len(seen):
                seen.append(self.done() - first)
            due = int(passed * rate) - (self._fed - first)
            if due >= min(1000, rate / 4):
                self._feed(min(due, 5000))
            else:
                time.sleep(0.01)
        return [*seen, self.done() - first]

    def _feed(self, count: int) -> None:
        self._ours.ask(do="many", count=count)
        self._fed += count


class Snapshot:
    """A transaction elsewhere that keeps what it sees, from `start` to `end` (seconds)."""

    def __init__(self, dsn: str, start: float, end: float) -> None:
        self._dsn, self._start, self._end = dsn, start, end
        self._held: psycopg.Connection | None = None

    def __call__(self, passed: float) -> None:
        if self._held is None and self._start <= passed < self._end:
            self._held = psycopg.connect(self._dsn)
            self._held.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._held.execute("SELECT count(*) FROM holdfast.workers")
        elif self._held is not None and passed >= self._end:
            self._held.close()
            self._held = None


def bare(dsn: str, worker: Worker, seconds: float) -> float:
    """Bare batched claim-and-finish SQL under a snapshot that is held as long: jobs a second."""
    snapshot = Snapshot(dsn, 0, seconds)
    worker.ask(do="fill", count=BARE)
    snapshot(0)
    end, jobs, spent = time.monotonic() + seconds, 0, 0.0
    while (left := end - time.monotonic()) > 0:
        found = worker.ask(do="drain", seconds=min(10.0, left))
        jobs, spent = jobs + found["jobs"], spent + found["end"] - found["begin"]
        if not found["jobs"]:
            raise NotRun(f"bare SQL had finished {BARE:,} jobs before its {seconds:g} s were over")
    snapshot(seconds)
    return float(jobs / spent)


def results(seen: list[int], rate: float, bare_rate: float) -> list[Result]:
    """The rows, from how many jobs had run at each second; the snapshot was held from 40 to 60 % of the time."""
    whole = len(seen) - 1

    def between(start: float, end: float) -> float:
        return (seen[int(end * whole)] - seen[int(start * whole)]) / (int(end * whole) - int(start * whole))

    first, held, last = between(0, 0.1), between(*HELD), between(0.9, 1)
    told = f"us {shown(held)}, of {shown(rate)} that were fed; bare SQL {shown(bare_rate)} jobs a second"
    return [
        _judged("last minute against the first", last / first, 0.85, f"first {shown(first)}, last {shown(last)}"),
        _judged(
            "while a snapshot is held, against bare claim-and-finish SQL under one as long", held / bare_rate, 3, told
        ),
    ]


def _judged(name: str, ratio: float, target: float, more: str) -> Result:
    verdict = "met" if ratio >= target else "missed"
    return Result(
        name, verdict, f"{shown(ratio)} times; {more}", f"at least {shown(target)}", {"rounds": 1, "judged": [ratio]}
    )


@contextlib.contextmanager
def sides_of() -> Iterator[tuple[str, sides.Side, Worker]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        runs = stack.enter_context(sides.memory()) / "ours"
        runs.write_bytes(b"")
        yield dsn, sides.ours(dsn, start, runs), start(sys.executable, str(HERE / "bare_sql.py"), dsn)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/soak")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the whole; the rest scales with it")
    whole = parser.parse_args().minutes * 60
    start, end = whole * HELD[0], whole * HELD[1]
    load = os.getloadavg()[0]
    with sides_of() as (dsn, ours, worker):
        settings = {**servers.versions(dsn), **sides.settings(), "slots": f"{SLOTS:,}", "minutes": f"{whole / 60:g}",
                    "finished jobs are kept": "60 s"}  # fmt: skip
        bare_rate = bare(dsn, worker, end - start)
        ours.environment = {**ours.environment, "HOLDFAST_KEEP_FINISHED": "60"}
        soak = Soak(ours)
        with ours.working(slots=SLOTS):
            rate = SHARE * soak.maximum()
            soak.drain()
            print(f"fed {rate:,.0f} jobs a second for {whole:g} s; a snapshot from {start:g} to {end:g} s", flush=True)
            seen = soak.steady(rate, whole, Snapshot(dsn, start, end))
    found = results(seen, rate, bare_rate)
    for result in found:
        print(f"{result.verdict:8} {result.name}\n         {result.value}, target {result.target}", flush=True)
    if whole >= 600:
        merge("soak", found, settings, load)
    return 0 if all(each.verdict == "met" for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
