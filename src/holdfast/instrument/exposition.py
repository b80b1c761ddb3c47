"""Metrics for Prometheus, made of the definitions in core/metrics.py, so that no exporter can show another one."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder

from holdfast.core.histogram import BOUNDS
from holdfast.core.metrics import Metric, Type

#: Values with their labels, in the order of the definition's.
Samples = Iterable[tuple[Sequence[str], float]]
#: Bounds that are shown; finer ones are for percentiles only.
LEAST_BOUND = 0.05


def value(metric: Metric, number: float) -> Family:
    """A metric without labels."""
    return values(metric, [((), number)])


def values(metric: Metric, samples: Samples) -> Family:
    """A gauge or counter."""
    make = CounterMetricFamily if metric.type is Type.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, number in samples:
        family.add_metric(labels, number)
    return family


def histogram(metric: Metric, samples: Iterable[tuple[Sequence[str], Sequence[int], float]]) -> Family:
    """A histogram, from counts by the bounds of core/histogram.py and the sum of all times."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, counts, total in samples:
        family.add_metric(labels, _buckets(counts), total)
    return family


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    shown, seen = [], 0
    for bound, count in zip(BOUNDS, counts, strict=False):
        seen += count
        if bound >= LEAST_BOUND:
            shown.append((f"{bound:g}", float(seen)))
    return [*shown, ("+Inf", float(sum(counts)))]


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The text and its media type: OpenMetrics for who asks for it, else the format that every Prometheus reads."""
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
