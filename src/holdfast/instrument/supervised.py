"""How a supervisor's processes are, for Prometheus: counted from its events, and asked of it at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from holdfast.core import metrics
from holdfast.core.counts import Counts
from holdfast.core.liveness import ProcessState
from holdfast.events import ChildDied, ChildStarted, Event
from holdfast.instrument.exposition import histogram, values


class SupervisorMetrics(Collector):
    """A sink of the supervisor's events, and a collector of what it knows and its processes counted.

    `processes` and `counts` are set once there is one.
    """

    def __init__(self) -> None:
        self.processes: Callable[[], Sequence[ProcessState]] = tuple
        self.counts: Callable[[], Counts] = Counts
        self._starts: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def emit(self, event: Event) -> None:
        """Called by the supervisor."""
        if isinstance(event, ChildStarted):
            self._starts[event.name] += 1
        elif isinstance(event, ChildDied) and (event.code != 0 or event.killed_for):
            self._deaths[event.name] += 1

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        processes = self.processes()
        running = Counter(each.name for each in processes)
        yield values(metrics.BUILD, [([version("holdfast")], 1.0)])
        yield values(metrics.SUPERVISED, [([name], number) for name, number in running.items()])
        ages = [([each.name], each.progress_ago) for each in processes if each.progress_ago is not None]
        yield values(metrics.PROGRESS_AGE, ages)
        yield values(metrics.STARTS, [([name], number) for name, number in self._starts.items()])
        yield values(metrics.DEATHS, [([name], number) for name, number in self._deaths.items()])
        counts = self.counts()
        for counter in (metrics.CLAIMED, metrics.SENT, metrics.ABANDONED):
            yield values(counter, counts.of(counter))
        for times in (metrics.CLAIM, metrics.DRAIN):
            yield histogram(times, counts.times(times))
