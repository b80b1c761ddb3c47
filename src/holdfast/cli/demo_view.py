"""What the demo shows while it runs: rate, states, workers, and each fault with its rescue and its time."""

import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Group
from rich.text import Text

from holdfast.cli.demo_report import Fault
from holdfast.postgres import reads

WIDTH = 40
RATE_OVER = 3.0
MOST_WORKERS = 8

_TITLES = {"kill": "SIGKILL to worker", "freeze": "SIGSTOP to worker"}


def describe_fault(fault: Fault) -> str:
    """One fault and what became of it, as far as the ledger knows.

    A process that is killed is seen by its supervisor; of a frozen one only the silence is seen.
    """
    if fault.what == "stop of SQS":
        away = f"answers again after {fault.back_after:.1f} s" if fault.back_after is not None else "away…"
        return f"SQS killed and started again: {away}"
    if fault.pid is None:
        after = f"next job succeeded after {fault.back_after:.1f} s" if fault.back_after is not None else "away…"
        return f"Postgres killed and restarted: {after}"
    title = f"{_TITLES[fault.what]} {fault.pid}"
    if not fault.claimable:
        waiting = "its silence must last for lost_after…" if fault.what == "freeze" else "…"
        return f"{title}: {waiting}"
    text = f"{title}: {fault.in_flight} job{'s' * (fault.in_flight != 1)} claimable after {fault.claimable[-1]:.2f} s"
    if fault.reclaimed:
        some = "" if len(fault.reclaimed) == fault.in_flight else f"{len(fault.reclaimed)} of them "
        text += f", {some}running again after {fault.reclaimed[-1]:.2f} s"
    return text


def is_over(fault: Fault) -> bool:
    """Whether everything that the fault hit goes on."""
    if fault.pid is None:
        return fault.back_after is not None
    return 0 < fault.in_flight == len(fault.reclaimed)


class View:
    """Turns what was last read into lines for a terminal, or into what is new for a log."""

    def __init__(self, total: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._now = now
        self._before = (now(), 0)
        self._rate = 0.0
        self._told: set[int] = set()

    def render(
        self,
        counts: Mapping[str, int],
        workers: Sequence[tuple[reads.LiveWorker, int]],
        faults: Sequence[Fault],
        frozen: Sequence[int],
    ) -> Group:
        """The live view; `workers` with the number of jobs that each runs."""
        done = counts.get("succeeded", 0)
        self._measure_rate(done)
        filled = round(WIDTH * done / self._total)
        bar = Text("█" * filled + "·" * (WIDTH - filled) + f"  {self._rate:4.0f} jobs a second")
        lines = [bar, Text(self.states(counts)), Text(_workers(workers, frozen))]
        lines += [Text(describe_fault(fault), "green" if is_over(fault) else "yellow") for fault in faults]
        return Group(*lines)

    def states(self, counts: Mapping[str, int]) -> str:
        """How many jobs are in which state."""
        done = sum(counts.get(status, 0) for status in ("succeeded", "dead", "cancelled"))
        parts = [f"{done:,} of {self._total:,} done"]
        parts += [f"{status} {counts[status]:,}" for status in ("queued", "running", "dead") if counts.get(status)]
        return ", ".join(parts)

    def news(self, faults: Sequence[Fault]) -> list[str]:
        """The faults that are over and have not been told yet."""
        fresh = [number for number, fault in enumerate(faults) if is_over(fault) and number not in self._told]
        self._told.update(fresh)
        return [describe_fault(faults[number]) for number in fresh]

    def _measure_rate(self, done: int) -> None:
        at, before = self._before
        now = self._now()
        if now - at >= RATE_OVER or (before == 0 and now > at):
            self._rate = (done - before) / (now - at)
        if now - at >= RATE_OVER:
            self._before = (now, done)


def _workers(workers: Sequence[tuple[reads.LiveWorker, int]], frozen: Sequence[int]) -> str:
    if not workers:
        return "no worker is known to live"
    shown = [
        f"{worker.pid} {'frozen' if worker.pid in frozen else f'runs {running}'}"
        for worker, running in workers[:MOST_WORKERS]
    ]
    more = f" and {len(workers) - MOST_WORKERS} more" if len(workers) > MOST_WORKERS else ""
    return f"{len(workers)} workers: {', '.join(shown)}{more}"
