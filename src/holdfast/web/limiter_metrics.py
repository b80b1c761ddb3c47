"""How the API's own rate limiter is, for Prometheus: read from its memory at each scrape."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.services.limiter import RateLimiter


class LimiterMetrics(Collector):
    """Mode, round trips, and what it remembers. Decisions are counted in the ledger, over all processes."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        report = self._limiter.report()
        yield GaugeMetricFamily(
            "holdfast_rate_limit_degraded",
            "Whether this process decides without Postgres.",
            value=float(report.mode == "memory"),
        )
        yield GaugeMetricFamily(
            "holdfast_rate_limit_instances",
            "Limiting processes that lived when Postgres was last asked; the shares of an outage.",
            value=report.instances,
        )
        yield GaugeMetricFamily(
            "holdfast_rate_limit_identities", "Identities that this process remembers.", value=report.identities
        )
        yield GaugeMetricFamily(
            "holdfast_rate_limit_debtors",
            "Identities that were admitted something that Postgres does not know of yet.",
            value=report.debtors,
        )
        flights = GaugeMetricFamily(
            "holdfast_rate_limit_flight_seconds", "The last 512 shared round trips.", labels=["quantile"]
        )
        for quantile, seconds in (("0.5", report.flight_p50), ("0.99", report.flight_p99)):
            if seconds is not None:
                flights.add_metric([quantile], seconds)
        yield flights
