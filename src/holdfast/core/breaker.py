"""A circuit breaker: what fails is left alone, longer each time, and then tried once before it is trusted again."""

from dataclasses import dataclass
from enum import Enum

from holdfast.core.retry import RetryPolicy

#: Pauses after failures: 1 s, 2 s, 4 s, ... 30 s, give or take a third, so that processes do not come back together.
PAUSES = RetryPolicy(base=1.0, factor=2.0, cap=30.0, jitter=1 / 3)


class State(Enum):
    """CLOSED: use it. OPEN: leave it alone. TRIAL: one use decides."""

    CLOSED = "closed"
    OPEN = "open"
    TRIAL = "trial"


@dataclass(frozen=True)
class Breaker:
    """`failures` in a row, and the time until which nothing is tried, in seconds of any clock that only goes forward.

    >>> broken = Breaker().failed(now=100.0, dice=0.5)
    >>> broken.state(now=100.5), broken.state(now=101.0)
    (<State.OPEN: 'open'>, <State.TRIAL: 'trial'>)
    """

    failures: int = 0
    until: float = 0.0

    def state(self, now: float) -> State:
        """Whether it may be used at this time."""
        if self.failures == 0:
            return State.CLOSED
        return State.OPEN if now < self.until else State.TRIAL

    def failed(self, now: float, dice: float) -> "Breaker":
        """After a failure; `dice` is random, 0 to 1."""
        failures = self.failures + 1
        return Breaker(failures, now + PAUSES.delay(failures, dice))

    def succeeded(self) -> "Breaker":
        """After a success."""
        return Breaker()
