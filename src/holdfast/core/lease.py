"""How long a worker may trust its leases when its beats are not accepted.

T is the moment at which the last accepted beat was sent, on the worker's own monotonic clock. The database may declare
the worker gone `lost_after` seconds later at the earliest, so everything that the worker does about its handlers
must have happened before:

    T                 T + stop_claiming   T + cancel         T + exit     T + lost_after
    |---- healthy ----|---- no claims ----|---- cancelled ---|-- exit --| gone |
"""

from dataclasses import dataclass
from enum import StrEnum

from holdfast.errors import ConfigurationError


class Trust(StrEnum):
    """What a worker may still do."""

    HEALTHY = "healthy"
    STOP_CLAIMING = "stop_claiming"
    CANCEL = "cancel"
    EXIT = "exit"


@dataclass(frozen=True)
class LeaseTimings:
    """Seconds. The three steps are shares of `lost_after`, so that raising it moves them along.

    >>> LeaseTimings().exit_after
    22.0
    """

    beat_interval: float = 5.0
    lost_after: float = 25.0

    def __post_init__(self) -> None:
        if self.beat_interval <= 0 or self.lost_after < 3 * self.beat_interval:
            raise ConfigurationError(
                f"lost_after is {self.lost_after:g} s and beat_interval {self.beat_interval:g} s: a worker must "
                f"be able to miss two beats; set lost_after to at least {3 * self.beat_interval:g} s"
            )

    @property
    def stop_claiming_after(self) -> float:
        return self.lost_after * 0.40

    @property
    def cancel_after(self) -> float:
        return self.lost_after * 0.72

    @property
    def exit_after(self) -> float:
        return self.lost_after * 0.88

    def trust(self, since_accepted: float) -> Trust:
        """What holds `since_accepted` seconds after the last accepted beat was sent."""
        if since_accepted >= self.exit_after:
            return Trust.EXIT
        if since_accepted >= self.cancel_after:
            return Trust.CANCEL
        if since_accepted >= self.stop_claiming_after:
            return Trust.STOP_CLAIMING
        return Trust.HEALTHY
