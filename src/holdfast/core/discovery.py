"""Which tables of a database look like jobs, by their names and the values of their status: what `watch discover` says.

A proposal is to be read by people: it names what it took for what, and alerts only.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: What statuses are called, the likeliest first.
RUNNING = ("running", "processing", "in_progress", "in progress", "inprogress", "started", "working", "executing",
           "picked", "doing", "active", "busy", "claimed", "reserved", "locked")  # fmt: skip
QUEUED = ("queued", "pending", "waiting", "todo", "ready", "available", "new", "enqueued", "scheduled", "created")
FAILED = ("failed", "failure", "error", "errored", "dead", "exception", "discarded")
#: What heartbeats are called, the surest first: the last are written at a claim alone, or by anything.
HEARTBEATS = ("heartbeat_at", "last_heartbeat_at", "last_heartbeat", "heartbeat", "last_seen_at", "last_seen",
              "seen_at", "pinged_at", "last_ping", "alive_at")  # fmt: skip
TOUCHED = ("updated_at", "modified_at", "updated", "last_modified", "changed_at", "updated_on")
STARTED = ("started_at", "start_time", "claimed_at", "locked_at", "picked_at", "reserved_at", "started", "starts_at")
_JOBLIKE = re.compile(r"(job|task|queue|work|export|import|run|process|delivery|message|webhook|event|outbox)", re.I)
#: What is kept about jobs, and holds none.
_RECORDS = re.compile(r"_(log|logs|statistics|stats|events|history|archive)$", re.I)
#: Tables of other libraries, which look after their jobs themselves, and the page that says what to watch.
LIBRARIES = {
    "procrastinate_jobs": ("Procrastinate", "docs/how-to/procrastinate.md"),
    "pgqueuer": ("PgQueuer", "docs/how-to/pgqueuer.md"),
    "pgqueuer_schedules": ("PgQueuer", "docs/how-to/pgqueuer.md"),
    "django_celery_results_taskresult": ("Celery", "docs/how-to/celery.md"),
    "celery_taskmeta": ("Celery", "docs/how-to/celery.md"),
}


@dataclass(frozen=True)
class Candidate:
    """A table with a status column: what is known of it."""

    schema: str
    table: str
    rows: int
    id: str | None
    status: str
    values: Sequence[str]
    times: Sequence[str]


@dataclass(frozen=True)
class Proposal:
    """An entry for a table. `doubts`: what a person must see to before it is used."""

    candidate: Candidate
    entry: Mapping[str, str | Sequence[str]]
    doubts: Sequence[str]
    score: int

    @property
    def is_whole(self) -> bool:
        """Whether it can be used as it is: nothing is left to be written in, and no library is to be asked first."""
        return "?" not in str(list(self.entry.values())) and self.candidate.table not in LIBRARIES


def propose(candidates: Sequence[Candidate]) -> list[Proposal]:
    """Entries for the tables that look like jobs, the likeliest first.

    >>> found = Candidate("public", "jobs", 10, "id", "status", ("done", "processing"), ("updated_at",))
    >>> propose([found])[0].entry["running"]
    ['processing']
    """
    seen: dict[tuple[str, str], Proposal] = {}
    for each in candidates:
        proposal = _propose(each)
        if proposal is not None:
            best = seen.setdefault((each.schema, each.table), proposal)
            if proposal.score > best.score:
                seen[each.schema, each.table] = proposal
    return sorted(seen.values(), key=lambda each: (-each.score, each.candidate.schema, each.candidate.table))


def _propose(found: Candidate) -> Proposal | None:
    running, queued, failed = (_those(found.values, names) for names in (RUNNING, QUEUED, FAILED))
    heartbeat = _first(found.times, HEARTBEATS)
    touched, started = _first(found.times, TOUCHED), _first(found.times, STARTED)
    named_so = bool(_JOBLIKE.search(found.table))
    if _RECORDS.search(found.table):
        return None
    if not named_so and not (running and queued):
        return None
    if not running and not (named_so and (heartbeat or started)):
        return None
    chosen = heartbeat or touched or started
    doubts: list[str] = []
    if found.table in LIBRARIES:
        library, page = LIBRARIES[found.table]
        doubts.append(f"this table is {library}'s, which looks after its jobs itself: read {page} first")
    if not running:
        doubts.append(f"no value of {found.status} that means running is known yet; write it in")
    if chosen is None:
        doubts.append("it has no time that workers could keep up while they run; add one, such as heartbeat_at")
    elif heartbeat is None:
        doubts.append(
            f"do workers write {chosen} while they run? If only at the start, stale_after is their longest run"
        )
    if found.id is None:
        doubts.append("it has no unique key on one column, without which people can only be told")
    entry: dict[str, str | Sequence[str]] = {
        "table": ".".join(map(_named, (found.schema, found.table))),
        "id": found.id or "?",
        "status": found.status,
        "heartbeat": chosen or "?",
    }
    if started and started != chosen and heartbeat:
        entry["since"] = started
    entry["running"] = running or ["?"]
    entry |= {name: values[0] for name, values in (("queued", queued), ("failed", failed)) if values}
    score = 2 * bool(running) + bool(queued) + 2 * named_so + 2 * bool(heartbeat) + bool(failed) - len(doubts)
    return Proposal(found, entry, doubts, score)


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set('".') & set(name) else name


def _those(values: Sequence[str], names: Sequence[str]) -> list[str]:
    ranked = {name: place for place, name in enumerate(names)}
    found = [each for each in values if each.lower() in ranked]
    return sorted(found, key=lambda each: ranked[each.lower()])


def _first(columns: Sequence[str], names: Sequence[str]) -> str | None:
    known = {_snake(each): each for each in columns}
    return next((known[name] for name in names if name in known), None)


def _snake(name: str) -> str:
    """lastHeartbeatAt and "Updated At" as last_heartbeat_at and updated_at: tables of TypeScript have such names."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[ -]+", "_", name).lower()


def as_toml(proposal: Proposal) -> str:
    """The entry as it is written into holdfast.toml, with what must be seen to first; as a comment while it lacks
    something."""
    found = proposal.candidate
    lines = [f"# {found.schema}.{found.table}: about {found.rows:,} rows; {found.status}: {_some(found.values)}"]
    lines = [_printable(line) for line in (*lines, *(f"# ? {doubt}" for doubt in proposal.doubts))]
    entry = ["[[watch]]", *(f"{name} = {_toml(value)}" for name, value in proposal.entry.items())]
    entry.append("stale_after = 600")
    entry.append('action = "alert"  # "requeue" sends a message to queue_url, "mark" writes the status alone')
    return "\n".join([*lines, *(entry if proposal.is_whole else [f"# {line}" for line in entry])])


def _toml(value: str | Sequence[str]) -> str:
    """As TOML has it: like JSON, but DEL is written as an escape, and beyond 16 bits nothing is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _some(values: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(values[:most]) + (", ..." if len(values) > most else "")
    return shown[:300] or "no value is known"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
