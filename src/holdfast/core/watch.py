"""A watched table: jobs that other programs keep in a table of their own, and what is done about stuck ones.

Such a row has no lease, so less is promised than for a job of ours: whoever was silent may still be alive and go on,
and then two run it. Only what may run twice is to be requeued; for the rest there are `mark` and `alert`.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from holdfast.core.watch_message import Template, columns_of, render
from holdfast.errors import ConfigurationError

Action = Literal["requeue", "mark", "alert"]
_NAME = re.compile(r'(?:"(?:[^"]|"")+"|[^".]+)')
_TABLE = re.compile(rf"(?:(?P<schema>{_NAME.pattern})\.)?(?P<table>{_NAME.pattern})")
#: Columns that a message is made of, at most.
MOST_COLUMNS = 40


@dataclass(frozen=True)
class Watch:
    """One `[[watch]]` of holdfast.toml. Times in seconds.

    table: schema.table, or a table of the schema public. id, status, heartbeat: its columns. running: the values of
    status of a row that somebody works at, and that owes heartbeats. queued, failed: what a rescued row becomes:
    queued, and failed once it was rescued `max_rescues` times. since: a column with the time that counts while
    heartbeat is null. stale_after: how long a running row may be silent. action: "requeue" makes it queued and sends a
    message to `queue_url`; "mark" makes it queued (failed, where no `queued` is named) and sends nothing; "alert"
    changes nothing. payload: the column that is the message's body; or message: what the body is made of, {column} for
    a value. attributes: the message's, made likewise. group: of a FIFO queue, made likewise; else the row's id.
    time_zone: of columns without one.
    """

    table: str
    id: str
    status: str
    heartbeat: str
    running: tuple[str, ...]
    queued: str | None = None
    failed: str | None = None
    since: str | None = None
    name: str = ""
    stale_after: float = 600.0
    action: Action = "alert"
    max_rescues: int = 3
    queue_url: str | None = None
    payload: str | None = None
    message: Template | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    time_zone: str | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Schema and table, without quotes."""
        found = _TABLE.fullmatch(self.table)
        assert found is not None
        return _unquoted(found["schema"] or "public"), _unquoted(found["table"])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that its messages are made of."""
        if self.action != "requeue":
            return ()
        payload = [] if self.payload is None else [self.payload]
        templates = [self._template, *self.attributes.values(), self.group or ""]
        return tuple(dict.fromkeys([*payload, *(name for each in templates for name in columns_of(each))]))

    @property
    def _template(self) -> Template:
        if self.payload is not None:
            return ""
        return {self.id: f"{{{self.id}}}"} if self.message is None else self.message

    def spec(self) -> dict[str, Any]:
        """What the SQL functions are told of it."""
        schema, table = self.place
        return {
            "name": self.name,
            "schema": schema,
            "table": table,
            "id": self.id,
            "status": self.status,
            "heartbeat": self.heartbeat,
            "since": self.since,
            "running": list(self.running),
            "queued": self.queued,
            "failed": self.failed,
            "stale_after": self.stale_after,
            "action": self.action,
            "time_zone": self.time_zone,
            "columns": list(self.columns),
            "payload": self.payload,
        }


@dataclass(frozen=True)
class StaleRow:
    """A stale row of a watched table, as it was read. `earlier`: how often it was rescued before."""

    row_id: str
    status: str
    heartbeat: str | None
    silent_since: Any
    columns: Mapping[str, Any]
    earlier: int


@dataclass(frozen=True)
class Rescue:
    """What is to become of a stale row. `is_final`: it was rescued too often. `entry`: the message to send for it."""

    row: StaleRow
    to_status: str
    is_final: bool
    queue_url: str | None = None
    entry: Mapping[str, Any] | None = None


def decide_rescue(watch: Watch, row: StaleRow) -> Rescue | None:
    """What becomes of a stale row; None where people are only told.

    >>> watch = Watch("jobs", "id", "status", "seen_at", ("running",), "queued", "failed", action="mark")
    >>> row = StaleRow("7", "running", None, None, {}, earlier=3)
    >>> decide_rescue(watch, row).to_status
    'failed'
    """
    if watch.action == "alert":
        return None
    if row.earlier >= watch.max_rescues or watch.queued is None:
        assert watch.failed is not None
        return Rescue(row, watch.failed, is_final=True)
    if watch.action == "mark":
        return Rescue(row, watch.queued, is_final=False)
    return Rescue(row, watch.queued, is_final=False, queue_url=watch.queue_url, entry=_entry(watch, row))


def _entry(watch: Watch, row: StaleRow) -> dict[str, Any]:
    body = render(watch._template, row.columns)
    if watch.payload is not None:
        body = render(f"{{{watch.payload}}}", row.columns)
    attributes = {name: render(text, row.columns) for name, text in watch.attributes.items()}
    typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value}
    entry: dict[str, Any] = {"MessageBody": body, "MessageAttributes": typed}
    if (watch.queue_url or "").endswith(".fifo"):
        entry["MessageGroupId"] = (render(watch.group, row.columns) if watch.group else row.row_id)[:128]
    return entry


def parse_watch(given: Mapping[str, Any], *, queue_url: str | None = None) -> Watch:
    """A table of holdfast.toml as a watch. Raises `ConfigurationError` that names what is wrong, and the way out.

    queue_url: where messages go unless it says so itself.

    >>> parse_watch({"table": "jobs", "heartbeat": "seen_at", "running": "busy"}).name
    'jobs'
    """
    where = f"[[watch]] of {given.get('table') or given.get('name') or 'no table'}"
    known = [each.name for each in fields(Watch)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"it may have {', '.join(known)}"
            raise ConfigurationError(f"{where} has no setting {name!r}; {advice}")
    missing = [name for name in ("table", "heartbeat", "running") if not given.get(name)]
    if missing:
        raise ConfigurationError(
            f"{where} lacks {', '.join(missing)}; `holdfast watch discover` proposes entries for your tables"
        )
    values = {"id": "id", "status": "status", **{key: value for key, value in given.items() if value is not None}}
    for name in ("running",):
        values[name] = tuple(map(str, values[name] if isinstance(values[name], list | tuple) else [values[name]]))
    for name in ("queued", "failed"):
        if name in values:
            values[name] = str(values[name])
    values["name"] = values.get("name") or values["table"]
    values["attributes"] = dict(values.get("attributes") or {})
    if values.get("action", "alert") == "requeue":
        values.setdefault("queue_url", queue_url)
    _check(where, values)
    watch = Watch(**values)
    _check_action(where, watch)
    return watch


_NUMBERS = {"stale_after": (1.0, 366 * 86400.0), "max_rescues": (0, 1000)}


def _check(where: str, values: Mapping[str, Any]) -> None:
    """Each value by itself."""
    for name in ("table", "id", "status", "heartbeat", "since", "name", "queue_url", "payload", "group", "time_zone"):
        value = values.get(name)
        if value is not None and (not isinstance(value, str) or not value or "\0" in value or len(value) > 500):
            raise ConfigurationError(f"{where}: {name} is {str(value)[:100]!r}; it must be a text")
    if _TABLE.fullmatch(values["table"]) is None:
        raise ConfigurationError(f'{where}: table must look like jobs, app.jobs or "My Schema"."Jobs"')
    if not all(values["running"]):
        raise ConfigurationError(f"{where}: running has an empty value")
    for name, (least, most) in _NUMBERS.items():
        value = values.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ConfigurationError(f"{where}: {name} is {str(value)[:100]}; it must be from {least:g} to {most:g}")
    if not isinstance(values.get("max_rescues", 0), int):
        raise ConfigurationError(f"{where}: max_rescues must be a whole number")
    action = values.get("action", "alert")
    if action not in get_args(Action):
        raise ConfigurationError(f"{where}: action is {str(action)[:100]!r}; it must be requeue, mark or alert")
    if not isinstance(values.get("message", ""), str | Mapping):
        raise ConfigurationError(f"{where}: message must be a text or a table of values")
    if not all(isinstance(each, str) for each in values["attributes"].values()) or len(values["attributes"]) > 10:
        raise ConfigurationError(f"{where}: attributes must be at most ten texts, as SQS takes them")


def _check_action(where: str, watch: Watch) -> None:
    """What is needed together."""
    if watch.payload is not None and watch.message is not None:
        raise ConfigurationError(f"{where} has payload and message; the body is one of them")
    for name in ("queued", "failed"):
        if getattr(watch, name) in watch.running:
            raise ConfigurationError(f"{where}: {getattr(watch, name)!r} is {name} and running as well")
    if watch.action == "alert":
        return
    if watch.failed is None:
        raise ConfigurationError(
            f"{where} lacks failed: what a row becomes once it was rescued {watch.max_rescues} times"
        )
    if watch.action == "requeue" and watch.queued is None:
        raise ConfigurationError(f"{where} lacks queued: what a row becomes that is sent again")
    if watch.action == "requeue" and watch.queue_url is None:
        raise ConfigurationError(
            f"{where} lacks queue_url, and SQS_QUEUE_URL is not set; for workers that look at the table themselves,"
            ' action = "mark"'
        )
    if len(watch.columns) > MOST_COLUMNS:
        raise ConfigurationError(f"{where}: a message is made of {MOST_COLUMNS} columns at most")


def check_names(watches: Sequence[Watch]) -> None:
    """Raise `ConfigurationError` where two watches have one name: what is known of each is kept by it."""
    names = [watch.name for watch in watches]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"two [[watch]] are called {twice!r}; give one of them a name of its own: name = ...")


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
