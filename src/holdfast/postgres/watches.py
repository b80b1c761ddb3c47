"""Calls about watched tables: what is wrong with one, which of its rows are stale, and taking them back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from holdfast.core.watch import Rescue, StaleRow, Watch
from holdfast.postgres.calls import Call


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a watched table. `level`: error (it is not looked at), warn, note. `advice`: the way out."""

    level: str
    problem: str
    advice: str


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """Since when a table cannot be looked at; what was rescued and given up within the hour; what cannot be sent."""

    blind_since: datetime | None
    rescued: int
    given_up: int
    unsent: int
    unsent_since: datetime | None
    unsent_why: str | None


@dataclass(frozen=True, slots=True)
class WatchLine:
    """A watched table as it was seen last. `rescued`, `given_up`: in all; `unsent`: messages that wait, to 1,000."""

    name: str
    table: str
    action: str
    stale_after: timedelta
    every: timedelta
    looked_at: datetime | None
    looked_ago: timedelta | None
    stale: int
    rescued: int
    given_up: int
    unsent: int
    problem_since: datetime | None
    problem: str | None
    advice: str | None


@dataclass(frozen=True, slots=True)
class WatchMessage:
    """A message of a rescued row that is to be sent. `attempts` counts this try."""

    id: UUID
    watch: str
    row_id: str
    queue_url: str
    entry: Mapping[str, Any]
    attempts: int


@dataclass(frozen=True, slots=True)
class Attempted:
    """A rescue that was carried out, or that the table `refused`, and why."""

    id: UUID
    refused: str | None


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table that could hold jobs: what `holdfast watch discover` judges by."""

    schema: str
    table: str
    rows: int
    id: str | None
    status: str
    values: Sequence[str]
    times: Sequence[str]
    columns: Sequence[str]


def examine_watch(watch: Watch) -> Call[Problem]:
    """What is wrong with a watched table as it is described."""
    text = "SELECT level, problem, advice FROM holdfast.examine_watch(%s::jsonb)"
    return Call("examine_watch", text, (json.dumps(watch.spec()),), Problem)


def find_watched(watch: Watch, most: int) -> Call[StaleRow]:
    """Its stale rows, the longest silent first."""
    text = "SELECT row_id, status, heartbeat, silent_since, columns, earlier FROM holdfast.find_watched(%s::jsonb, %s)"
    return Call("find_watched", text, (json.dumps(watch.spec()), most), StaleRow)


def rescue_watched(watch: Watch, rescues: Mapping[UUID, Rescue]) -> Call[Attempted]:
    """Take rows back whose status and heartbeat are what was read; those that were, and those that are refused."""
    wanted = [
        {
            "id": str(id),
            "row_id": each.row.row_id,
            "status": each.row.status,
            "heartbeat": each.row.heartbeat,
            "silent_since": None if each.row.silent_since is None else str(each.row.silent_since),
            "to_status": each.to_status,
            "is_final": each.is_final,
            "queue_url": each.queue_url,
            "entry": each.entry,
        }
        for id, each in rescues.items()
    ]
    text = "SELECT id, refused FROM holdfast.rescue_watched(%s::jsonb, %s::jsonb)"
    return Call("rescue_watched", text, (json.dumps(watch.spec()), json.dumps(wanted)), _attempted)


def begin_watches(watches: Sequence[Watch], every: float) -> Call[str]:
    """The names of those that it is this process's turn to look at; `every` in seconds."""
    given = [
        {
            "name": each.name,
            "table_name": ".".join(each.place),
            "action": each.action,
            "stale_after": each.stale_after,
            "every": every,
        }
        for each in watches
    ]
    return Call("begin_watches", "SELECT holdfast.begin_watches(%s::jsonb)", (json.dumps(given),), str)


def end_watch(name: str, result: Mapping[str, Any]) -> Call[WatchEnded]:
    """Write down what a look came to: {stale, rescued, given_up}, {problem} or both, and {advice}."""
    text = (
        "SELECT blind_since, rescued, given_up, unsent, unsent_since, unsent_why FROM holdfast.end_watch(%s, %s::jsonb)"
    )
    return Call("end_watch", text, (name, json.dumps(result)), WatchEnded)


def list_watches(most: int = 100, *, abandoned: bool = False) -> Call[WatchLine]:
    """The watched tables that somebody looked at within a day; `abandoned`: the others."""
    text = (
        "SELECT name, table_name, action, stale_after, every, looked_at, looked_ago, stale, rescued, given_up, unsent,"
        " problem_since, problem, advice FROM holdfast.list_watches(%s, %s)"
    )
    return Call("list_watches", text, (most, abandoned), WatchLine)


def forget_watch(name: str) -> Call[str]:
    """A watched table was taken out of the settings; its name, where it was known."""
    return Call("forget_watch", "SELECT holdfast.forget_watch(%s)", (name,), str)


def take_watch_messages(most: int, lease: float) -> Call[WatchMessage]:
    """Messages to send now; `lease` in seconds."""
    text = "SELECT id, watch, row_id, queue_url, entry, attempts FROM holdfast.take_watch_messages(%s, %s::interval)"
    return Call("take_watch_messages", text, (most, timedelta(seconds=lease)), WatchMessage)


def settle_watch_messages(results: Sequence[tuple[UUID, str | None, float]]) -> Call[UUID]:
    """What became of messages: (id, error or None, seconds until it is tried again)."""
    text = "SELECT holdfast.settle_watch_messages(%s::uuid[], %s::text[], %s::interval[])"
    ids, errors = [each[0] for each in results], [each[1] for each in results]
    delays = [timedelta(seconds=each[2]) for each in results]
    return Call("settle_watch_messages", text, (ids, errors, delays), _uuid)


def discover_tables(most: int = 200) -> Call[FoundTable]:
    """Tables of the team's own that could hold jobs."""
    text = (
        "SELECT schema_name, table_name, row_estimate, id_column, status_column, status_values, times, columns"
        " FROM holdfast.discover_tables(%s)"
    )
    return Call("discover_tables", text, (most,), FoundTable)


def _attempted(id: Any, refused: str | None) -> Attempted:
    return Attempted(_uuid(id), refused)


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
