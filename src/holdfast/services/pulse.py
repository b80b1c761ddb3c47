"""The moment that everything about a worker's liveness is counted from: when its last accepted beat was sent."""

import threading
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_now() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(_CLOCK)


class Pulse:
    """Written by the beat thread, read by the watchdog; no lock is needed for one float."""

    def __init__(self) -> None:
        self.accepted_at = steady_now()
        self.accepted = threading.Event()

    def beat_accepted(self, sent_at: float) -> None:
        """The ledger accepted a beat that was sent at `sent_at`."""
        self.accepted_at = sent_at
        self.accepted.set()

    def age(self) -> float:
        """Seconds since the last accepted beat was sent."""
        return steady_now() - self.accepted_at
