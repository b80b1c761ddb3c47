"""Calls about what people decide: redrives and discards of dead letters, and who takes incidents on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from holdfast.core.redrive import Redrive
from holdfast.postgres.calls import Call


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters are meant: all that is given must hold. `ids` of letters or of jobs; spans in seconds.

    `gone`: also those that are there no longer, for looking only.
    """

    ids: Sequence[str] | None = None
    fingerprint: str | None = None
    queue: str | None = None
    source: str | None = None
    kind: str | None = None
    cause: str | None = None
    newer: float | None = None
    older: float | None = None
    gone: bool = False

    def as_json(self) -> str:
        """As `matching_letters` reads it."""
        given: dict[str, Any] = {
            "ids": None if self.ids is None else [str(each) for each in self.ids],
            "fingerprint": self.fingerprint,
            "queue": self.queue,
            "source": self.source,
            "kind": self.kind,
            "cause": self.cause,
            "newer": None if self.newer is None else f"{self.newer} seconds",
            "older": None if self.older is None else f"{self.older} seconds",
            "gone": self.gone or None,
        }
        return json.dumps({name: value for name, value in given.items() if value is not None})

    @property
    def is_everything(self) -> bool:
        """Whether nothing was asked for in particular."""
        return self.as_json() == "{}"


@dataclass(frozen=True)
class RedriveOptions:
    """How letters are sent: `target` another queue; `canary` letters first; `rate` a second; waits in seconds."""

    by: str
    note: str | None = None
    target: str | None = None
    canary: int = 0
    canary_wait: float = 300.0
    rate: float | None = None
    quarantine_after: int = 3
    at_most: int | None = None

    def as_json(self) -> str:
        given = {**self.__dict__, "canary_wait": f"{self.canary_wait} seconds"}
        return json.dumps({name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a redrive was made of: letters in it; left out since they came back too often, or are in another one."""

    total: int
    quarantined: int
    busy: int


@dataclass(frozen=True, slots=True)
class LetterCause:
    """Dead letters of one cause, counted."""

    fingerprint: str
    queue: str
    source: str
    kind: str
    cause: str
    letters: int
    captured: int
    quarantined: int
    returned: int
    oldest_at: datetime
    newest_at: datetime
    sample_id: UUID
    sample_job_id: str | None


@dataclass(frozen=True, slots=True)
class LetterLine:
    """A dead letter in a list. `bytes` of its body, None for a job."""

    id: UUID
    source: str
    queue: str
    job_id: str | None
    kind: str
    cause: str
    fingerprint: str
    received: int
    sent_at: datetime | None
    first_seen_at: datetime
    gone_at: datetime | None
    captured_at: datetime | None
    returns: int
    outcome: str | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class LetterPage:
    """A dead letter, whole, and the job in the ledger that it was about, if there is one (`job_...`)."""

    id: UUID
    source: str
    queue: str
    key: str
    job_id: str | None
    kind: str
    cause: str
    fingerprint: str
    body: str | None
    attributes: dict[str, Any]
    received: int
    sent_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    gone_at: datetime | None
    captured_at: datetime | None
    original: dict[str, Any] | None
    returns: int
    earlier_id: UUID | None
    outcome: str | None
    outcome_at: datetime | None
    outcome_by: str | None
    outcome_reason: str | None
    incident_id: UUID | None
    job_status: str | None
    job_error: dict[str, Any] | None
    job_attempts: int | None
    job_crashes: int | None
    job_worker: UUID | None
    job_heartbeat_at: datetime | None


@dataclass(frozen=True, slots=True)
class LetterLife:
    """A life of a dead letter, and a redrive that it was in."""

    letter_id: UUID
    returns: int
    first_seen_at: datetime
    redrive_id: UUID | None
    requested_by: str | None
    at: datetime | None
    status: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class RedriveLine:
    """A redrive in a list. `waiting` are to be sent, `remaining` were not when it ended."""

    id: UUID
    status: str
    reason: str
    requested_by: str
    note: str | None
    filter: dict[str, Any]
    target: str | None
    canary: int
    rate: float | None
    total: int
    waiting: int
    sent: int
    succeeded: int
    returned: int
    same: int
    skipped: int
    failed: int
    remaining: int
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class MessageToSend:
    """A message of a redrive. `again`: whoever was about to send it before died; it may have been sent."""

    letter_id: UUID
    queue: str
    key: str
    body: str | None
    original: dict[str, Any] | None
    returns: int
    captured: bool
    again: bool


@dataclass(frozen=True)
class Sent:
    """What became of a message: sent, skipped, failed, or waiting again."""

    letter_id: UUID
    status: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class IncidentLine:
    """An incident. `state`: open, reopened, acknowledged, silenced or resolved; `open_for` in seconds.

    `told` counts notifications, `waiting` those not delivered yet.
    """

    id: UUID
    state: str
    kind: str
    key: str
    title: str
    level: int
    arrivals: int
    untold: int
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None
    open_for: float
    reopened: int
    told_at: datetime | None
    told: int
    waiting: int
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    silenced_until: datetime | None
    silenced_by: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class IncidentTelling:
    """One notification of an incident, and what became of it."""

    id: UUID
    channel: str
    reason: str
    content: dict[str, Any] = field(repr=False)
    created_at: datetime
    due_at: datetime
    attempts: int
    delivered_at: datetime | None
    error: str | None


def list_incidents(
    states: Sequence[str] | None = None, wanted: str | None = None, most: int = 1000
) -> Call[IncidentLine]:
    """Incidents in these states (None: all but resolved); `wanted` begins an id, or is a kind."""
    given = None if states is None else list(states)
    return _rows("list_incidents", "%s::text[], %s, %s", (given, wanted, most), IncidentLine)


def incident_history(incident: UUID) -> Call[IncidentTelling]:
    """What was told of an incident, to whom, and what became of it."""
    return _rows("incident_history", "%s", (incident,), IncidentTelling)


def incident_ack(id: UUID, by: str, note: str | None = None, *, ack: bool = True) -> Call[str]:
    """Take an incident on (or no longer): acknowledged, open, resolved or not_found."""
    return Call("incident_ack", "SELECT holdfast.incident_ack(%s, %s, %s, %s)", (id, by, note, ack), str)


def incident_silence(id: UUID, seconds: float, by: str, note: str | None = None) -> Call[str]:
    """Tell nothing of an incident for some seconds; 0 ends a silence: silenced, open, resolved or not_found."""
    silence = timedelta(seconds=seconds)
    return Call(
        "incident_silence", "SELECT holdfast.incident_silence(%s, %s::interval, %s, %s)", (id, silence, by, note), str
    )


def letter_groups(wanted: LetterFilter, quarantine_after: int = 3, most: int = 1000) -> Call[LetterCause]:
    """Dead letters by cause, the most first."""
    return _rows("letter_groups", "%s::jsonb, %s, %s", (wanted.as_json(), quarantine_after, most), LetterCause)


def list_letters(wanted: LetterFilter, most: int = 100) -> Call[LetterLine]:
    """Dead letters, the newest first."""
    return _rows("list_letters", "%s::jsonb, %s", (wanted.as_json(), most), LetterLine)


def show_letter(wanted: str) -> Call[LetterPage]:
    """The dead letter with an id, or a job's id, that begins so; 2 at most."""
    return _rows("show_letter", "%s", (wanted,), LetterPage)


def letter_history(letter: UUID) -> Call[LetterLife]:
    """The lives of a dead letter and the redrives that it was in, the oldest first."""
    return _rows("letter_history", "%s", (letter,), LetterLife)


def redrive_dead_letters(id: UUID, wanted: LetterFilter, options: RedriveOptions) -> Call[Frozen]:
    """Write down which letters are to be sent; whoever works at redrives sends them. Repeatable with the same id."""
    parameters = (id, wanted.as_json(), options.as_json())
    return _rows("redrive_dead_letters", "%s, %s::jsonb, %s::jsonb", parameters, Frozen)


def claim_redrive(owner: UUID, lease: float, one: UUID | None = None) -> Call[Redrive]:
    """Take a redrive that nobody works at, or renew one's own, for `lease` seconds."""
    return _rows("claim_redrive", "%s, %s::interval, %s", (owner, timedelta(seconds=lease), one), Redrive)


def redrive_jobs(redrive: UUID, owner: UUID, most: int) -> Call[int]:
    """Give the next jobs of a redrive another life; how many were looked at."""
    return Call("redrive_jobs", "SELECT holdfast.redrive_jobs(%s, %s, %s)", (redrive, owner, most), int)


def take_redrive_messages(redrive: UUID, owner: UUID, most: int) -> Call[MessageToSend]:
    """The next messages of a redrive, to be sent by its owner."""
    return _rows("take_redrive_messages", "%s, %s, %s", (redrive, owner, most), MessageToSend)


def settle_redrive_messages(redrive: UUID, owner: UUID, results: Sequence[Sent]) -> Call[int]:
    """What became of messages that were to be sent; how many were settled."""
    text = json.dumps([{**each.__dict__, "letter_id": str(each.letter_id)} for each in results])
    return Call(
        "settle_redrive_messages",
        "SELECT holdfast.settle_redrive_messages(%s, %s, %s::jsonb)",
        (redrive, owner, text),
        int,
    )


def change_redrive(id: UUID, action: str, reason: str) -> Call[str | None]:
    """Check, go_on, pause, resume, watch, finish, stop or cancel a redrive; its status, None where there is none."""
    return Call("change_redrive", "SELECT holdfast.change_redrive(%s, %s, %s)", (id, action, reason), _text)


def list_redrives(wanted: str | None = None, most: int = 50) -> Call[RedriveLine]:
    """Redrives, the newest first; `wanted` begins an id."""
    return _rows("list_redrives", "%s, %s", (wanted, most), RedriveLine)


def discard_dead_letters(wanted: LetterFilter, by: str, reason: str) -> Call[int]:
    """Decide that letters need no more doing; they are kept, with who said so and why. How many."""
    text = "SELECT holdfast.discard_dead_letters(%s::jsonb, %s, %s)"
    return Call("discard_dead_letters", text, (wanted.as_json(), by, reason), int)


_Row = TypeVar("_Row")


def _rows(function: str, arguments: str, parameters: tuple[Any, ...], row: type[_Row]) -> Call[_Row]:
    """All columns of a function that returns a table, in the order of the row's fields."""
    names = ", ".join(row.__dict__["__dataclass_fields__"])
    return Call(function, " ".join(("SELECT", names, "FROM", f"holdfast.{function}({arguments})")), parameters, row)


def _text(value: str | None) -> str | None:
    return value
