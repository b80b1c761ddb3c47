"""Events as counts: what a worker's or a monitor's process tells its supervisor, which shows them to Prometheus."""

from collections import Counter

from holdfast.core import metrics
from holdfast.core.counts import Counts
from holdfast.events import Event, JobsClaimed, NotificationDelivered, NotificationFailed, WorkerStopped


class CountingSink:
    """Counts what happens in this process."""

    def __init__(self) -> None:
        self.counts = Counts()

    def emit(self, event: Event) -> None:
        """Called for each event."""
        counts = self.counts
        if isinstance(event, JobsClaimed):
            counts.observe(metrics.CLAIM, event.seconds)
            for place, many in Counter(event.jobs).items():
                counts.add(metrics.CLAIMED, place, many)
        elif isinstance(event, NotificationDelivered):
            counts.add(metrics.SENT, (event.channel, "delivered"))
        elif isinstance(event, NotificationFailed):
            counts.add(metrics.SENT, (event.channel, "failed"))
        elif isinstance(event, WorkerStopped):
            counts.observe(metrics.DRAIN, event.seconds)
            counts.add(metrics.ABANDONED, (), event.released)
