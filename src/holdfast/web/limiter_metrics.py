"""How the API's own rate limiter is, for Prometheus: read from its memory at each scrape."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from holdfast.core import metrics
from holdfast.instrument.exposition import value, values
from holdfast.services.limiter import RateLimiter


class LimiterMetrics(Collector):
    """Mode, round trips, and what it remembers. Decisions are counted in the ledger, over all processes."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        report = self._limiter.report()
        yield value(metrics.DEGRADED, float(report.mode == "memory"))
        yield value(metrics.INSTANCES, report.instances)
        yield value(metrics.IDENTITIES, report.identities)
        yield value(metrics.DEBTORS, report.debtors)
        flights = {"p50": report.flight_p50, "p99": report.flight_p99}
        yield values(metrics.FLIGHT, [([name], each) for name, each in flights.items() if each is not None])
