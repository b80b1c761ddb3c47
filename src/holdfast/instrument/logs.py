"""Events as log lines, through the standard library's logging."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from holdfast import events

_LEVELS: dict[type[object], int] = {
    events.BrakeHeld: logging.WARNING,
    events.ChildDied: logging.WARNING,
    events.ForeignMessageHeard: logging.ERROR,
    events.IncidentChanged: logging.WARNING,
    events.ChildNotStarted: logging.ERROR,
    events.JobFailed: logging.WARNING,
    events.JobsClaimed: logging.DEBUG,
    events.JobRescued: logging.WARNING,
    events.LeaseWasLost: logging.WARNING,
    events.LedgerLost: logging.WARNING,
    events.LocalServerDied: logging.ERROR,
    events.LocalServerStarted: logging.WARNING,
    events.NotificationFailed: logging.WARNING,
    events.QueueLost: logging.WARNING,
    events.ScheduleFailed: logging.ERROR,
    events.RateLimiterSwitched: logging.WARNING,
    events.StaleJobLocked: logging.ERROR,
    events.TrustChanged: logging.WARNING,
    events.WatchedRowRescued: logging.WARNING,
    events.WatchedTableLost: logging.WARNING,
    events.WorkerCondemned: logging.WARNING,
    events.WorkerMarkedGone: logging.WARNING,
}
_MOST = 300
#: What is tried again and again, and fails each time while an outage lasts; seconds between two lines about one.
_REPEATED = (events.LedgerLost, events.QueueLost)
_AGAIN = 30.0

#: What logs, at its lower levels, addresses, bodies, receipts and signatures: those are secrets, or somebody's data.
TALKATIVE = ("httpx", "httpcore", "botocore", "aiobotocore", "aiohttp", "urllib3", "apprise")


def quieten() -> None:
    """Let none of them log below a warning, whatever level the rest has."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class LogSink:
    """One line an event: its name in words, then its fields.

    Of calls that fail over and over the first is a line, and then one each 30 s, with how many there were in between:
    an outage of a night fills no disk.
    """

    def __init__(self, logger: logging.Logger | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger or logging.getLogger("holdfast")
        self._clock = clock
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def emit(self, event: events.Event) -> None:
        level = _LEVELS.get(type(event), logging.INFO)
        if isinstance(event, events.ChildDied) and event.code == 0:
            level = logging.INFO
        if isinstance(event, events.RateLimiterSwitched) and event.mode == "postgres":
            level = logging.INFO
        if isinstance(event, events.WorkerMarkedGone) and event.cause == "stopped":
            level = logging.INFO
        if self._logger.isEnabledFor(level):
            more = ""
            if isinstance(event, _REPEATED):
                untold = self._untold(event)
                if untold is None:
                    return
                more = f" untold={untold}" if untold else ""
            fields = " ".join(f"{name}={_one_line(value)}" for name, value in asdict(event).items())
            self._logger.log(level, "%s %s%s", _words(type(event).__name__), fields, more)

    def _untold(self, event: events.LedgerLost | events.QueueLost) -> int | None:
        """How many like it had no line of their own since the last that had; None: this one has none either."""
        key, now = (type(event).__name__, event.what), self._clock()
        told_at, untold = self._told.get(key, (float("-inf"), 0))
        if now - told_at < _AGAIN:
            self._told[key] = (told_at, untold + 1)
            return None
        self._told[key] = (now, 0)
        return untold


def _words(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _one_line(value: object) -> str:
    """What a handler raised must neither break a line of the log nor reach a terminal as a command."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value)[:_MOST])
