"""What `/metrics` shows: the ledger's own totals, over all processes, from a snapshot that a background task keeps.

A scrape asks nobody and costs the ledger nothing. The totals are counted in the ledger (see the function count_events),
so they survive restarts, and each instance of the API shows the same ones: scrape one, or take the maximum.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.errors import HoldfastError
from holdfast.postgres import reads
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.rate_limit import RateLimitTotal, rate_limit_totals

_log = logging.getLogger("holdfast")

#: Seconds: between looks, until one is given up, and for how long its answer counts.
EVERY = 5.0
DEADLINE = 5.0
FRESH = 30.0


@dataclass(frozen=True)
class Seen:
    """The monitors as they were at a moment (monotonic seconds)."""

    at: float
    monitors: tuple[reads.Monitor, ...]
    limits: tuple[RateLimitTotal, ...] = ()


class LedgerMetrics:
    """Reads the ledger's totals in the background, over a connection of its own."""

    def __init__(self, dsn: str) -> None:
        self._ledger = AsyncLedger(dsn, name="holdfast metrics", deadline=DEADLINE)
        self._seen: Seen | None = None
        self._task: asyncio.Task[None] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    async def start(self) -> None:
        """Begin to look; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._ledger.close()

    def watch(self, collector: Collector) -> None:
        """Show what this collector has as well."""
        self._registry.register(collector)

    async def step(self) -> None:
        """One look; a ledger that does not answer leaves the last one to grow old."""
        try:
            monitors = await self._ledger.call(reads.list_monitors())
            limits = await self._ledger.call(rate_limit_totals())
        except HoldfastError:
            return
        except Exception:
            _log.exception("the look for the metrics failed in an unforeseen way")
            return
        self._seen = Seen(time.monotonic(), tuple(monitors), tuple(limits))

    def render(self) -> bytes:
        """The text that Prometheus reads (exposition format 0.0.4)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        seen = self._seen
        fresh = seen is not None and time.monotonic() - seen.at < FRESH
        yield GaugeMetricFamily(
            "holdfast_ledger_up", "Whether the ledger answered within the last 30 seconds.", value=float(fresh)
        )
        if seen is not None and fresh:
            yield from _from_monitors(seen.monitors)
            yield _from_limits(seen.limits)

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            await self.step()
            await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))


def _from_monitors(monitors: tuple[reads.Monitor, ...]) -> Iterator[Metric]:
    swept = GaugeMetricFamily(
        "holdfast_monitor_last_sweep_timestamp_seconds", "When a monitor swept last, by the ledger.", labels=["monitor"]
    )
    held = GaugeMetricFamily("holdfast_brake_held", "Whether silent workers are not declared gone for now.", value=0.0)
    for monitor in monitors:
        if monitor.swept_at is not None:
            swept.add_metric([monitor.name], monitor.swept_at.timestamp())
        if monitor.is_held:
            held = GaugeMetricFamily("holdfast_brake_held", held.documentation, value=1.0)
        if monitor.name == "count_events":
            yield from _from_totals(monitor.last_result.get("totals") or {})
    yield swept
    yield held


def _from_limits(limits: tuple[RateLimitTotal, ...]) -> Metric:
    decisions = CounterMetricFamily(
        "holdfast_rate_limit_decisions",
        "Decisions about requests, over all processes; the source memory decided without Postgres.",
        labels=["policy", "source", "outcome"],
    )
    for each in limits:
        decisions.add_metric([each.policy, each.source, each.outcome], each.decisions)
    return decisions


def _from_totals(totals: dict[str, int]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "holdfast_job_events", "What happened to jobs besides their happy path.", labels=["event", "reason"]
    )
    for key, count in sorted(totals.items()):
        event, _, reason = key.partition("/")
        if event not in ("false_rescue", "fenced_late_write"):
            events.add_metric([event, reason], count)
    yield events
    yield CounterMetricFamily(
        "holdfast_false_rescues",
        "Rescues that took a job from a run still to be trusted, by the ledger's timestamps; it should stay at 0.",
        value=totals.get("false_rescue", 0),
    )
    yield CounterMetricFamily(
        "holdfast_fenced_late_writes",
        "Runs that ended after their lease was lost, and were refused.",
        value=totals.get("fenced_late_write", 0),
    )
