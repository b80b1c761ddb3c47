"""Jobs by filter in bounded time, and actions on all that match one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement

#: Rows that one page reads at most; so it takes tens of milliseconds however many there are.
MOST_LOOKED = 10_000


@dataclass(frozen=True)
class JobSearch:
    """Which jobs; what is None does not matter.

    error: part of the error's type or message, in either case. key: a unique, group or limit key. args: a document that
    the arguments contain. fingerprint: the cause of their last error.
    """

    status: str | None = None
    queue: str | None = None
    kind: str | None = None
    error: str | None = None
    key: str | None = None
    args: Mapping[str, Any] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    fingerprint: str | None = None

    def as_json(self) -> str:
        """As the SQL functions read it."""
        given = {name: getattr(self, name) for name in JobSearch.__dataclass_fields__}
        return json.dumps({name: value for name, value in given.items() if value is not None}, default=_as_json)


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job in a list. `known` (queued ones only): whether a live worker knows its kind."""

    id: UUID
    queue: str
    kind: str
    status: str
    attempts: int
    max_attempts: int
    lease: int
    run_at: datetime
    claimed_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    error: str | None
    error_type: str | None
    suspect: bool
    cancel_requested: bool
    known: bool | None


@dataclass(frozen=True, slots=True)
class FoundPage:
    """One page, newest first; `next` is where the following one begins.

    `complete` is false where the page ended because enough was looked at: as far back as `looked_to`.
    """

    jobs: list[FoundJob]
    next: UUID | None
    complete: bool
    looked_to: datetime | None


@dataclass(frozen=True, slots=True)
class Matching:
    """How many jobs an action on all would meet, `jobs` or more (`is_more`), by kind and queue."""

    jobs: int
    is_more: bool
    last_id: UUID | None
    groups: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class BulkOperation:
    """An action on all jobs that match a filter. `expected` jobs, or more (`is_more`).

    `verdicts`: what became of them."""

    id: UUID
    action: str
    filter: dict[str, Any]
    actor: str
    status: str
    expected: int
    is_more: bool
    looked: int
    done: int
    verdicts: dict[str, int]
    samples: dict[str, list[str]]
    created_at: datetime
    changed_at: datetime
    finished_at: datetime | None


def search_jobs(
    wanted: JobSearch, *, before: UUID | None = None, limit: int = 50, most_looked: int = MOST_LOOKED
) -> Call[FoundPage]:
    """One page of jobs, newest first, in bounded time."""
    parameters = (wanted.as_json(), before, limit, most_looked)
    return Call("search_jobs", "SELECT holdfast.search_jobs(%s::jsonb, %s::uuid, %s, %s)", parameters, _page)


def count_matching_jobs(wanted: JobSearch, most_looked: int = MOST_LOOKED) -> Call[Matching]:
    """What an action on all that match would meet."""
    return Call(
        "count_matching_jobs",
        "SELECT holdfast.count_matching_jobs(%s::jsonb, %s)",
        (wanted.as_json(), most_looked),
        lambda found: Matching(found["jobs"], found["is_more"], _uuid(found["last_id"]), found["groups"]),
    )


def begin_bulk_operation(
    id: UUID, action: str, wanted: JobSearch, *, actor: str, matching: Matching
) -> Call[tuple[UUID, str, int]]:
    """Ask for an action; some process of the API makes its steps. No row where that id is there already."""
    parameters = {
        "id": id,
        "action": action,
        "filter": wanted.as_json(),
        "actor": actor,
        "expected": matching.jobs,
        "is_more": matching.is_more,
        "last_id": matching.last_id or UUID(int=0),
    }
    return Call(
        "begin_bulk_operation",
        statement("begin_bulk_operation"),
        parameters,
        lambda new, action, expected: (new, action, expected),
    )


def step_bulk_operation(max_jobs: int = 200, most_looked: int = MOST_LOOKED) -> Call[tuple[UUID, str]]:
    """One step of the operation that waits longest; no row where there is none."""
    text = "SELECT id, status FROM holdfast.step_bulk_operation(%s, %s)"
    return Call("step_bulk_operation", text, (max_jobs, most_looked), lambda operation, status: (operation, status))


def cancel_bulk_operation(id: UUID) -> Call[tuple[UUID, int]]:
    """End an operation; no row where it has ended, or there is none."""
    return Call(
        "cancel_bulk_operation", statement("cancel_bulk_operation"), {"id": id}, lambda ended, done: (ended, done)
    )


def list_bulk_operations(id: UUID | None = None, limit: int = 50) -> Call[BulkOperation]:
    """Operations, the newest first; or one."""
    return Call("list_bulk_operations", statement("list_bulk_operations"), {"id": id, "limit": limit}, BulkOperation)


_TIMES = ("run_at", "claimed_at", "heartbeat_at", "finished_at", "created_at")


def _page(found: dict[str, Any]) -> FoundPage:
    return FoundPage(
        [_job(each) for each in found["jobs"]], _uuid(found["next"]), found["complete"], _time(found["looked_to"])
    )


def _job(found: dict[str, Any]) -> FoundJob:
    return FoundJob(**{**found, "id": UUID(found["id"]), **{name: _time(found[name]) for name in _TIMES}})


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _time(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)


def _as_json(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
