"""What `/metrics` shows: the ledger's own totals, over all processes, from what the health watch saw last.

A scrape asks nobody and costs the ledger nothing. The totals are counted in the ledger (see the function count_events),
so they survive restarts, and each instance of the API shows the same ones: scrape one, or take the maximum.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.core.health import LimitTotal, Monitor
from holdfast.services.health import HealthWatch


class LedgerMetrics:
    """Shows what a health watch has seen, and what further collectors have."""

    def __init__(self, watch: HealthWatch, *others: Collector) -> None:
        self._watch = watch
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (self, *others):
            self._registry.register(collector)

    def render(self) -> bytes:
        """The text that Prometheus reads (exposition format 0.0.4)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        report = self._watch.report
        yield GaugeMetricFamily(
            "holdfast_ledger_up",
            "Whether the ledger answered within the last 30 seconds.",
            value=float(report is not None),
        )
        if report is not None:
            yield from _from_monitors(report.monitors, report.clock)
            yield _from_limits(report.rate_limits)


def _from_monitors(monitors: Sequence[Monitor], clock: datetime) -> Iterator[Metric]:
    swept = GaugeMetricFamily(
        "holdfast_monitor_last_sweep_timestamp_seconds", "When a monitor swept last, by the ledger.", labels=["monitor"]
    )
    held = GaugeMetricFamily("holdfast_brake_held", "Whether silent workers are not declared gone for now.", value=0.0)
    for monitor in monitors:
        if monitor.swept_ago is not None:
            swept.add_metric([monitor.name], (clock - timedelta(seconds=monitor.swept_ago)).timestamp())
        if monitor.is_held:
            held = GaugeMetricFamily("holdfast_brake_held", held.documentation, value=1.0)
        if monitor.name == "count_events":
            yield from _from_totals(monitor.last_result.get("totals") or {})
    yield swept
    yield held


def _from_limits(limits: Sequence[LimitTotal]) -> Metric:
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
