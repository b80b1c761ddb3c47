"""What happens, as frozen data: one class an event. Logs, metrics and alerts are sinks that receive them."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

_log = logging.getLogger("holdfast")


@dataclass(frozen=True)
class WorkerStarted:
    """A worker has registered and begins to claim."""

    worker_id: UUID
    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    slots: int
    quarantine: bool


@dataclass(frozen=True)
class JobsClaimed:
    """A claim was answered after `seconds`. `jobs`: queue and kind of each that it brought."""

    jobs: tuple[tuple[str, str], ...]
    seconds: float


@dataclass(frozen=True)
class WorkerStopped:
    """A worker has ended. `reason`: drained, gone, leftovers. `released`: runs that had not ended when its drain was
    over. `seconds`: how long it took from when it was told."""

    worker_id: UUID
    reason: str
    released: int
    seconds: float = 0.0


@dataclass(frozen=True)
class WorkerCondemned:
    """A worker takes no new jobs and ends, because its process cannot be trusted any more. `loop_lag` in seconds."""

    worker_id: UUID
    why: str
    loop_lag: float


@dataclass(frozen=True)
class WorkerMarkedGone:
    """A worker was declared gone. `cause`: lapsed, crashed, stopped, fenced."""

    worker_id: UUID
    cause: str
    seen_at: datetime | None
    is_crash: bool


@dataclass(frozen=True)
class BrakeHeld:
    """Silent workers are not declared gone yet. `cause`: postgres_restarted, sweep_resumed, mass_lapse."""

    cause: str
    workers: int


@dataclass(frozen=True)
class ChildStarted:
    """A supervisor started a process."""

    name: str
    pid: int
    worker_id: UUID | None


@dataclass(frozen=True)
class ChildNotStarted:
    """A process could not be started (no process, descriptor or memory is left); it is tried again."""

    name: str
    error: str


@dataclass(frozen=True)
class ChildDied:
    """A supervisor's process ended. `code`: exit code, or minus the signal. `killed_for`: why we did it ourselves."""

    name: str
    pid: int
    code: int
    killed_for: str | None


@dataclass(frozen=True)
class JobRescued:
    """A job was taken back from a run that will not end. `lease` and `worker_id` are those of that run.

    `silent_for`: seconds from the last sign of life to the rescue.
    """

    job_id: UUID
    queue: str
    kind: str
    reason: str
    lease: int
    worker_id: UUID | None
    status: str
    last_sign_of_life: datetime | None
    rescued_at: datetime
    silent_for: float | None


@dataclass(frozen=True)
class StaleJobLocked:
    """A job should have been rescued over a minute ago, and somebody holds its row locked: end that transaction.

    `pid` is the server process that holds it (None when several do): SELECT pg_terminate_backend(pid).
    """

    job_id: UUID
    reason: str
    pid: int | None
    application_name: str | None
    state: str | None
    since: datetime | None


@dataclass(frozen=True)
class JobsPruned:
    """Retention removed jobs: `finished` that had succeeded or been cancelled, and `dead` that nobody redrove."""

    finished: int
    dead: int


@dataclass(frozen=True)
class JobFailed:
    """A handler raised. `status` tells what the ledger made of it: queued (another attempt) or dead."""

    job_id: UUID
    kind: str
    lease: int
    status: str
    error: str
    fingerprint: str


@dataclass(frozen=True)
class ScheduleTicked:
    """A schedule was due, and this process had the tick. `verdict`: enqueued, or overlapped by the job before.

    `late` in seconds.
    """

    name: str
    tick: datetime
    verdict: str
    job_id: UUID | None
    late: float


@dataclass(frozen=True)
class ScheduleFailed:
    """A schedule was due, and its job could not be made; it is tried again each 15 seconds."""

    name: str
    tick: datetime
    error: str


@dataclass(frozen=True)
class LeaseWasLost:
    """A run of this worker no longer holds its job; its handler is told to stop and nothing of it is stored."""

    job_id: UUID
    kind: str
    lease: int
    found_by: str


@dataclass(frozen=True)
class TrustChanged:
    """The watchdog changed what this worker may do (see core/lease.py)."""

    worker_id: UUID
    trust: str
    since_accepted: float


@dataclass(frozen=True)
class LedgerLost:
    """A call to the ledger failed; it is tried again. `error` holds no secret."""

    what: str
    error: str


@dataclass(frozen=True)
class QueueLost:
    """A call to SQS failed; it is tried again. `error` holds no secret and no account's id."""

    what: str
    error: str


@dataclass(frozen=True)
class ForeignMessageHeard:
    """A queue that was given for bells holds somebody else's messages: no more is received from it."""

    queue: str


@dataclass(frozen=True)
class Swept:
    """A monitor that runs alone has swept. `result`: what that came to."""

    monitor: str
    result: str


@dataclass(frozen=True)
class DeadLettersSeen:
    """A dead-letter queue was looked at: `count` by SQS, `seen` messages, `new` ones. `complete`: all were seen."""

    queue: str
    count: int
    seen: int
    new: int
    complete: bool


@dataclass(frozen=True)
class IncidentChanged:
    """An incident was opened, grew worse or was resolved (`action`), and who is to be told is in the ledger."""

    kind: str
    action: str
    title: str
    arrivals: int


@dataclass(frozen=True)
class RedriveChanged:
    """A redrive of dead letters goes on, waits, or has ended (`status`), and why."""

    id: UUID
    status: str
    reason: str


@dataclass(frozen=True)
class NotificationDelivered:
    """Somebody was told of an incident. `reason`: first, worse, repeat, resolved, test."""

    channel: str
    reason: str
    attempts: int


@dataclass(frozen=True)
class NotificationFailed:
    """A channel did not take a notification; it is tried again in `again_in` seconds."""

    channel: str
    error: str
    attempts: int
    again_in: float


@dataclass(frozen=True)
class LocalServerDied:
    """The local Postgres is gone; it is started again. `error`: why that failed, and it is tried once more."""

    data_dir: str
    error: str = ""


@dataclass(frozen=True)
class LocalServerStarted:
    """The local Postgres, which had died, runs again."""

    data_dir: str
    pid: int | None


@dataclass(frozen=True)
class RateLimiterSwitched:
    """A process's rate limits are kept elsewhere now. `mode`: postgres, or memory while that does not answer."""

    mode: str
    why: str
    instances: int


Event = (
    WorkerStarted
    | JobsClaimed
    | WorkerStopped
    | WorkerCondemned
    | WorkerMarkedGone
    | BrakeHeld
    | ChildStarted
    | ChildNotStarted
    | ChildDied
    | JobRescued
    | JobFailed
    | JobsPruned
    | ScheduleFailed
    | ScheduleTicked
    | StaleJobLocked
    | LeaseWasLost
    | TrustChanged
    | LedgerLost
    | QueueLost
    | ForeignMessageHeard
    | Swept
    | DeadLettersSeen
    | IncidentChanged
    | RedriveChanged
    | NotificationDelivered
    | NotificationFailed
    | LocalServerDied
    | LocalServerStarted
    | RateLimiterSwitched
)


class Sink(Protocol):
    """Receives events. It must be quick and may be called from any thread."""

    def emit(self, event: Event) -> None: ...


class Sinks:
    """Hands each event to every sink. A sink that fails is logged, and never fails a job."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._sinks = tuple(sinks)

    def emit(self, event: Event) -> None:
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception:
                _log.exception("a sink failed on %s", type(event).__name__)
