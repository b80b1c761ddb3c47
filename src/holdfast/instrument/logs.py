"""Events as log lines, through the standard library's logging."""

import logging
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
    events.WorkerCondemned: logging.WARNING,
    events.WorkerMarkedGone: logging.WARNING,
}
_MOST = 300

#: What logs, at its lower levels, addresses, bodies, receipts and signatures: those are secrets, or somebody's data.
TALKATIVE = ("httpx", "httpcore", "botocore", "aiobotocore", "aiohttp", "urllib3", "apprise")


def quieten() -> None:
    """Let none of them log below a warning, whatever level the rest has."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class LogSink:
    """One line an event: its name in words, then its fields."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("holdfast")

    def emit(self, event: events.Event) -> None:
        level = _LEVELS.get(type(event), logging.INFO)
        if isinstance(event, events.ChildDied) and event.code == 0:
            level = logging.INFO
        if isinstance(event, events.RateLimiterSwitched) and event.mode == "postgres":
            level = logging.INFO
        if isinstance(event, events.WorkerMarkedGone) and event.cause == "stopped":
            level = logging.INFO
        if self._logger.isEnabledFor(level):
            fields = " ".join(f"{name}={_one_line(value)}" for name, value in asdict(event).items())
            self._logger.log(level, "%s %s", _words(type(event).__name__), fields)


def _words(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _one_line(value: object) -> str:
    """What a handler raised must neither break a line of the log nor reach a terminal as a command."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value)[:_MOST])
