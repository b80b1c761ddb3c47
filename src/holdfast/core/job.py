"""What can happen to a job, and what may become of it: the protocol's transitions as one table of data.

The SQL functions own the transitions; this table states them once more, in a form that people and programs can read:
the documentation's state diagram, the dashboard's buttons, and the tests that put every status through every event and
compare what the functions did with what stands here.

    enqueue ──► queued ──claim──► running ──complete──► succeeded
                  ▲ │                │ │
                  │ │ cancel         │ └─ no attempt left, a lone crash too many ──► dead
                  │ └──► cancelled ◄─┘ (a cancel was asked for)                        │
                  └─ fail, release, snooze, a rescue ─┘          retry: dead, cancelled ──► queued
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

#: When a job may become due. Drivers read no time beyond these years, in whatever time zone, so one such row would
#: break every claim that meets it; the ledger refuses it as well.
EARLIEST, LATEST = datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
DUE_YEARS = "run_at must lie in the years 2 to 9998"


class Status(StrEnum):
    """Where a job is. `succeeded`, `dead` and `cancelled` are final, but for a retry of the last two."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a job that exists: a claim, the four outcomes of a run, what people ask, the rescues."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail"
    RELEASE = "release"
    SNOOZE = "snooze"
    PROGRESS = "progress"
    CANCEL = "cancel"
    RETRY = "retry"
    WORKER_GONE = "worker_gone"
    DEADLINE_PASSED = "deadline_passed"
    NO_HEARTBEAT = "no_heartbeat"
    CLAIM_LOST = "claim_lost"


FINAL: frozenset[Status] = frozenset({Status.SUCCEEDED, Status.DEAD, Status.CANCELLED})

_GIVEN_BACK = frozenset({Status.QUEUED, Status.CANCELLED})
_MAY_BE_THE_END = _GIVEN_BACK | {Status.DEAD}

#: Each status that an event may lead to. A pair that is absent changes no status: the event is refused, told "lost",
#: or (a cancel of a running job) noted for whoever ends the run.
TRANSITIONS: Mapping[tuple[Status, Event], frozenset[Status]] = MappingProxyType(
    {
        (Status.QUEUED, Event.CLAIM): frozenset({Status.RUNNING}),
        (Status.QUEUED, Event.CANCEL): frozenset({Status.CANCELLED}),
        (Status.RUNNING, Event.COMPLETE): frozenset({Status.SUCCEEDED}),
        (Status.RUNNING, Event.FAIL): _MAY_BE_THE_END,
        (Status.RUNNING, Event.RELEASE): _GIVEN_BACK,
        (Status.RUNNING, Event.SNOOZE): _GIVEN_BACK,
        (Status.RUNNING, Event.WORKER_GONE): _MAY_BE_THE_END,
        (Status.RUNNING, Event.DEADLINE_PASSED): _MAY_BE_THE_END,
        (Status.RUNNING, Event.NO_HEARTBEAT): _MAY_BE_THE_END,
        (Status.RUNNING, Event.CLAIM_LOST): _MAY_BE_THE_END,
        (Status.DEAD, Event.RETRY): frozenset({Status.QUEUED}),
        (Status.CANCELLED, Event.RETRY): frozenset({Status.QUEUED}),
    }
)
