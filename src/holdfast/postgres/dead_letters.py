"""Calls about dead letters, incidents and the notifications of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from holdfast.core.incident import OpenIncident
from holdfast.core.ledger_watch import OldTransaction
from holdfast.core.letters import LetterGroup
from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement


@dataclass(frozen=True)
class NewLetter:
    """A message found in a dead-letter queue. `key` is the message's id; the body is kept here and nowhere else.

    `original` is what else is needed to send it again as it was; only captured messages have it. `earlier` is the
    letter that was sent again as this message.
    """

    id: UUID
    key: str
    job_id: str | None
    kind: str
    cause: str
    fingerprint: str
    body: str
    attributes: dict[str, str]
    received: int
    sent_at: datetime | None
    original: Mapping[str, Any] | None = None
    earlier: UUID | None = None


@dataclass(frozen=True)
class IncidentChange:
    """What is to be written about one incident; `content` is what is told of it, if anybody is (`tell`).

    `version` is the one that was decided about; `wait`, an interval, is how long a first notification is held back.
    """

    id: UUID
    action: str
    kind: str
    key: str
    title: str | None
    details: dict[str, Any]
    arrivals: int
    content: dict[str, Any]
    version: int | None = None
    tell: bool = True
    level: int = 0
    wait: str | None = None


@dataclass(frozen=True, slots=True)
class LookEnded:
    """Since when nobody could look at a queue; in how many seconds SQS deletes the oldest that is not kept here."""

    blind_since: datetime | None
    lost_in: float | None


@dataclass(frozen=True, slots=True)
class DeadJobsExpiring:
    """How many dead jobs retention removes soon, and when the first of them; None where there is none."""

    jobs: int
    first_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetterQueue:
    """A dead-letter queue of SQS that is looked at. `is_abandoned`: nobody has for long."""

    name: str
    looked_at: datetime | None
    every: timedelta
    messages: int | None
    captured: bool
    only_counted: str | None
    blind_since: datetime | None
    error: str | None
    expires_at: datetime | None
    is_abandoned: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was written: of dead letters, `arrivals` is how many were marked as told of."""

    id: UUID
    kind: str
    key: str
    action: str
    arrivals: int


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification to deliver. `attempts` counts this try."""

    id: UUID
    incident_id: UUID | None
    channel: str
    reason: str
    content: dict[str, Any]
    attempts: int
    created_at: datetime


_NEW_LETTER = tuple(NewLetter.__dataclass_fields__)


def collect_dead_jobs() -> Call[int]:
    """Take jobs that went dead among the dead letters; how many were new."""
    return Call("collect_dead_jobs", "SELECT holdfast.collect_dead_jobs()", (), int)


def dead_jobs_expiring(keep: float, notice: float) -> Call[DeadJobsExpiring]:
    """Dead jobs, kept for `keep` seconds, that are removed within `notice` seconds."""
    text = "SELECT jobs, first_at FROM holdfast.dead_jobs_expiring(%s::interval, %s::interval)"
    return Call("dead_jobs_expiring", text, (timedelta(seconds=keep), timedelta(seconds=notice)), DeadJobsExpiring)


def note_moved_letters(queue: str, began: datetime, by: str, detail: str) -> Call[int]:
    """Letters that SQS itself has moved are redriven; how many."""
    text = "SELECT holdfast.note_moved_letters(%s, %s, %s, %s)"
    return Call("note_moved_letters", text, (queue, began, by, detail), int)


def note_dead_letters(queue: str, letters: Sequence[NewLetter], *, complete: bool) -> Call[int]:
    """Keep what a look brought; how many were new."""
    text = _as_text(letters)
    return Call(
        "note_dead_letters", "SELECT holdfast.note_dead_letters(%s, %s::jsonb, %s)", (queue, text, complete), int
    )


def _as_text(letters: Sequence[NewLetter]) -> str:
    """JSON of them; `asdict` would copy all that is in them first, which took as long as SQS."""
    return json.dumps([{name: getattr(each, name) for name in _NEW_LETTER} for each in letters], default=_as_json)


def begin_looks(queues: Sequence[str], every: float) -> Call[str]:
    """Those of these queues that it is this process's turn to look at."""
    parameters = (sorted(queues), timedelta(seconds=every))
    return Call("begin_looks", "SELECT holdfast.begin_looks(%s::text[], %s::interval)", parameters, str)


def end_look(queue: str, facts: Mapping[str, Any]) -> Call[LookEnded]:
    """What a look came to: {messages, captured, only_counted, error, retention}."""
    text = "SELECT blind_since, lost_in FROM holdfast.end_look(%s, %s::jsonb)"
    return Call("end_look", text, (queue, json.dumps(dict(facts))), LookEnded)


def list_dead_letter_queues(most: int = 1000) -> Call[DeadLetterQueue]:
    """The dead-letter queues that anybody looks at."""
    names = ", ".join(DeadLetterQueue.__dataclass_fields__)
    text = f"SELECT {names} FROM holdfast.list_dead_letter_queues(%s)"
    return Call("list_dead_letter_queues", text, (most,), DeadLetterQueue)


def capture_dead_letters(queue: str, letters: Sequence[NewLetter]) -> Call[int]:
    """Keep messages whole, so that they can be deleted from their queue; how many were new."""
    text = _as_text(letters)
    return Call("capture_dead_letters", "SELECT holdfast.capture_dead_letters(%s, %s::jsonb)", (queue, text), int)


def dead_letter_groups() -> Call[LetterGroup]:
    """The groups of which somebody must be told, or whose incident is open."""
    names = ", ".join(LetterGroup.__dataclass_fields__)
    return Call("dead_letter_groups", f"SELECT {names} FROM holdfast.dead_letter_groups()", (), LetterGroup)


def open_incidents(kinds: Sequence[str]) -> Call[OpenIncident]:
    """The incidents of these kinds that are open or were within the last hour, 1,000 of each at most."""

    def read(kind: str, key: str, title: str, arrivals: int, open_for: Any, *more: Any) -> OpenIncident:
        id, version, status, level, untold, told_ago, repeats, clean, clean_for, reopened, taken, silenced = more
        return OpenIncident(
            kind, key, title, arrivals, float(open_for), id, version, status, level, untold, _float(told_ago), repeats,
            clean, _float(clean_for), reopened, taken, silenced,
        )  # fmt: skip

    return Call("open_incidents", statement("open_incidents"), {"kinds": list(kinds)}, read)


def record_incidents(changes: Sequence[IncidentChange], channels: Sequence[str]) -> Call[Recorded]:
    """Write incidents and notifications, in one transaction."""
    text = json.dumps([asdict(change) for change in changes], default=_as_json)
    return Call(
        "record_incidents",
        "SELECT id, kind, key, action, arrivals FROM holdfast.record_incidents(%s::jsonb, %s::text[])",
        (text, list(channels)),
        Recorded,
    )


def oldest_transaction() -> Call[OldTransaction]:
    """The client's transaction that has been open for longest; none where none is."""
    text = "SELECT pid, application, state, age FROM holdfast.oldest_transaction()"
    return Call("oldest_transaction", text, (), OldTransaction)


def prune_letters(keep: float) -> Call[int]:
    """Forget letters, redrives, incidents and notifications that were over `keep` seconds ago; how many rows."""
    return Call("prune_letters", "SELECT holdfast.prune_letters(%s::interval)", (timedelta(seconds=keep),), int)


def last_sweep() -> Call[float | None]:
    """How many seconds ago stuck jobs were swept last; None for never."""
    return Call("last_sweep", "SELECT holdfast.last_sweep()", (), _float)


def announce_channels(channels: Sequence[str], every: float) -> Call[str]:
    """Tells that somebody delivers to these channels, and will look again within `every` seconds."""
    parameters = {"channels": list(channels), "every": timedelta(seconds=every)}
    return Call("announce_channels", statement("announce_channels"), parameters, str)


def adopt_notifications(channel: str) -> Call[UUID]:
    """Take over, for this channel, what waits for one that nobody has any more; 1,000 at most."""
    return Call("adopt_notifications", statement("adopt_notifications"), {"channel": channel}, _same)


def pause_channel(channel: str, seconds: float) -> Call[str]:
    """Deliver nothing to this channel for some seconds, in no process."""
    parameters = {"channel": channel, "pause": timedelta(seconds=seconds)}
    return Call("pause_channel", statement("pause_channel"), parameters, str)


def claim_notifications(channels: Sequence[str], most: int, lease: float) -> Call[Notification]:
    """Take notifications that are due; nobody else takes them for `lease` seconds."""
    names = ", ".join(Notification.__dataclass_fields__)
    return Call(
        "claim_notifications",
        f"SELECT {names} FROM holdfast.claim_notifications(%s::text[], %s, %s::interval)",
        (list(channels), most, timedelta(seconds=lease)),
        Notification,
    )


def settle_notification(id: UUID, error: str | None, again_after: float | None) -> Call[bool]:
    """Say what became of a try: delivered (no error), or to be tried again after some seconds."""
    after = None if again_after is None else timedelta(seconds=again_after)
    return Call(
        "settle_notification", "SELECT holdfast.settle_notification(%s, %s, %s::interval)", (id, error, after), bool
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _same(id: UUID) -> UUID:
    return id


def _as_json(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
