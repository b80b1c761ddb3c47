"""A fleet of real processes over a private Postgres, a place where its handlers leave traces, and ways to wait."""

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from holdfast import Settings
from holdfast.postgres.embedded import EmbeddedPostgres
from tests.chaos import handlers

LOST_AFTER = 2.0
STALE_AFTER = 8.0
TIMES = {
    "HOLDFAST_BEAT_INTERVAL": "0.4",
    "HOLDFAST_LOST_AFTER": f"{LOST_AFTER}",
    "HOLDFAST_SWEEP_INTERVAL": "0.5",
    "HOLDFAST_STALE_AFTER": f"{STALE_AFTER}",
    "HOLDFAST_DRAIN_TIMEOUT": "3",
    "HOLDFAST_POLL": "0.2",
}
MARK = "CHAOS_RUN"
PATIENCE = 60.0

# What happens to each row is kept as it happens, by a trigger: the history that the checker reads.
HISTORY = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.effects (job_id uuid NOT NULL, lease bigint NOT NULL, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE chaos.history (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    job_id uuid NOT NULL, lease_before bigint, lease bigint NOT NULL, status_before text, status text NOT NULL,
    worker_before uuid, worker_id uuid, settled_as text);
CREATE INDEX ON chaos.history (job_id, seq);
CREATE FUNCTION chaos.remember() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO chaos.history (job_id, lease, status) VALUES (NEW.id, NEW.lease, NEW.status);
    ELSE
        INSERT INTO chaos.history
            (job_id, lease_before, lease, status_before, status, worker_before, worker_id, settled_as)
        VALUES (NEW.id, OLD.lease, NEW.lease, OLD.status, NEW.status, OLD.worker_id, NEW.worker_id, NEW.settled_as);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE ON holdfast.jobs FOR EACH ROW EXECUTE FUNCTION chaos.remember();
"""


def until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE) -> Any:
    """Wait until the condition holds and return its value: the one place where these tests wait."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        pause.wait(0.05)


def hold_for(seconds: float) -> None:
    """How long a fault lasts is part of the fault."""
    threading.Event().wait(seconds)


def send(number: signal.Signals, *pids: int) -> float:
    """Signal processes, the first first; when."""
    at = time.time()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return at


def lives(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@dataclass(frozen=True)
class WorkerProcess:
    """A live worker, as the ledger knows it."""

    id: UUID
    pid: int
    parent_pid: int


class Chaos:
    """One test's fleet, database, jobs and traces; everything it starts ends in `close`."""

    def __init__(self, server: EmbeddedPostgres, dsn: str, folder: Path, seed: int) -> None:
        self.server = server
        self.dsn = dsn
        self.folder = folder
        self.seed = seed
        self.rng = random.Random(seed)
        self.effects = folder / "effects"
        self.effects.mkdir(parents=True)
        self.submitted: dict[UUID, str] = {}
        self.members: list[Member] = []
        self.lost_after, self.stale_after = LOST_AFTER, STALE_AFTER
        self.times = dict(TIMES)
        self._mark = uuid4().hex
        self._conn: psycopg.Connection[dict[str, Any]] | None = None
        shutil.copy(handlers.__file__, folder / "chaos_app.py")
        spec = importlib.util.spec_from_file_location("chaos_app", folder / "chaos_app.py")
        assert spec is not None
        assert spec.loader is not None
        self.app: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.app)
        self.app.hf.use(Settings.model_validate({"database_url": dsn}))
        self.ask(HISTORY)

    def use_default_timings(self) -> None:
        """For the fleet that is started from now on: what a user has who sets nothing."""
        settings = Settings()
        self.lost_after, self.stale_after = settings.lost_after, settings.stale_after
        self.times = {}

    # The ledger ----------------------------------------------------------

    def ask(self, query: LiteralString, *params: Any) -> list[dict[str, Any]]:
        """A question to Postgres, past every proxy; asked again while Postgres is away."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if self._conn is None or self._conn.closed:
                    self._conn = psycopg.connect(self.dsn, autocommit=True, connect_timeout=5, row_factory=dict_row)
                    self._conn.execute("SET statement_timeout = '30s'")
                    self._conn.execute("SET default_transaction_read_only = off")
                cursor = self._conn.execute(query, _parameters(params))
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                self._conn = None
                hold_for(0.1)

    def forget_connection(self) -> None:
        """The server behind it stands still, and would be waited for."""
        if self._conn is not None:
            self._conn.pgconn.finish()
            self._conn = None

    def value(self, query: LiteralString, *params: Any) -> Any:
        (row,) = self.ask(query, *params)
        (only,) = row.values()
        return only

    def session(self, name: str) -> psycopg.Connection[Any]:
        """A connection of the fault's own; the caller closes it."""
        return psycopg.connect(self.dsn, autocommit=True, application_name=name)

    # Jobs ----------------------------------------------------------------

    def submit(self, kind: str, count: int, *args: Any) -> list[UUID]:
        """Jobs that the ledger has confirmed; their ids are kept here, not there."""
        handler = getattr(self.app, kind)
        prepared = [handler.prepare(*args) for _ in range(count)]
        jobs = self.app.hf.enqueue_many_sync(prepared)
        self.submitted.update({job.id: kind for job in jobs})
        return [job.id for job in jobs]

    def unfinished(self) -> int:
        found = self.value(
            "SELECT count(*) FROM holdfast.jobs WHERE id = ANY (%s) AND status IN ('succeeded', 'dead', 'cancelled')",
            list(self.submitted),
        )
        return len(self.submitted) - int(found)

    def all_ended(self, *, seconds: float = PATIENCE) -> None:
        until(lambda: self.unfinished() == 0, "every job has ended", seconds=seconds)

    def running(self, worker_id: UUID) -> int:
        return int(
            self.value("SELECT count(*) FROM holdfast.jobs WHERE status = 'running' AND worker_id = %s", worker_id)
        )

    def started(self, job_id: UUID) -> bool:
        """Whether a handler of this job has begun, by its own word."""
        return any(line.job_id == job_id for line in self.traces())

    def traces(self) -> list["Trace"]:
        return read_traces(self.effects)

    # The fleet -----------------------------------------------------------

    def start(
        self,
        count: int = 1,
        *,
        processes: int = 1,
        slots: int = 10,
        dsn: str | None = None,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> list["Member"]:
        """Supervisors with their workers; returns when all their workers are in the ledger.

        prefix: what their command begins with, where they are to run elsewhere.
        """
        new = [Member(self, processes, slots, dsn or self.dsn, environment or {}, prefix) for _ in range(count)]
        self.members += new
        until(lambda: all(len(each.workers()) == processes for each in new), "the fleet has started")
        return new

    def workers(self) -> list[WorkerProcess]:
        """Live workers, quarantine left out."""
        found = self.ask("SELECT id, pid, parent_pid FROM holdfast.workers WHERE gone_at IS NULL AND NOT quarantine")
        return [WorkerProcess(**row) for row in found]

    def busy(self, among: Callable[[], Sequence[WorkerProcess]] | None = None, *, least: int = 5) -> WorkerProcess:
        """Some worker that runs at least so many jobs."""

        def find() -> list[WorkerProcess]:
            candidates = sorted((among or self.workers)(), key=lambda each: each.id)
            return [each for each in candidates if self.running(each.id) >= least]

        return self.rng.choice(until(find, f"a worker runs {least} jobs"))

    def gone_at(self, worker_id: UUID) -> float | None:
        at = self.value("SELECT gone_at FROM holdfast.workers WHERE id = %s", worker_id)
        return None if at is None else at.timestamp()

    def environment(self, dsn: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "DATABASE_"))}
        extra = {"HOLDFAST_DATABASE_URL": dsn, "CHAOS_EFFECTS": str(self.effects), MARK: self._mark}
        return {**kept, **self.times, **extra}

    def processes(self) -> list[int]:
        """Every process that descends from ours, by the mark in its environment."""
        return [pid for pid, environment in _environments() if f"{MARK}={self._mark}".encode() in environment]

    def logged(self, word: str, since: float) -> list[float]:
        """When the fleet logged a line of that kind, from then on."""
        times = [at for member in self.members for at, line in member.log_lines() if word in line and at >= since]
        return sorted(times)

    def close(self) -> None:
        for member in self.members:
            member.kill()
        end = time.monotonic() + 20
        while (pids := self.processes()) and time.monotonic() < end:
            send(signal.SIGKILL, *pids)
            hold_for(0.05)
        for member in self.members:
            member.process.wait()
        with contextlib.suppress(Exception):
            self.app.hf.close_sync()
        if self._conn is not None:
            self._conn.close()


@dataclass
class Member:
    """One supervisor in a session of its own."""

    chaos: Chaos
    processes: int
    slots: int
    dsn: str
    environment: Mapping[str, str]
    prefix: Sequence[str]
    process: subprocess.Popen[bytes] = field(init=False)
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.chaos.folder / f"member-{len(self.chaos.members)}-{uuid4().hex[:6]}.log"
        arguments = ["worker", "chaos_app:hf", "--processes", str(self.processes), "--slots", str(self.slots)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "holdfast", *arguments],
                cwd=self.chaos.folder,
                env={**self.chaos.environment(self.dsn), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[WorkerProcess]:
        assert self.process.poll() is None, f"the supervisor ended: {self.log.read_text()[-2000:]}"
        return [each for each in self.chaos.workers() if each.parent_pid == self.pid]

    def log_lines(self) -> Iterator[tuple[float, str]]:
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                yield datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp(), line  # noqa: DTZ007

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


@dataclass(frozen=True)
class Trace:
    """One line that a handler left."""

    pid: int
    job_id: UUID
    lease: int
    what: str
    at: float


def read_traces(folder: Path) -> list[Trace]:
    """All lines, in the order of their times."""
    found = []
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            job_id, lease, what, at = line.split()
            found.append(Trace(int(path.name), UUID(job_id), int(lease), what, int(at) / 1e9))
    return sorted(found, key=lambda trace: trace.at)


def _parameters(params: tuple[Any, ...]) -> Any:
    """By position, or one mapping by name."""
    return params[0] if len(params) == 1 and isinstance(params[0], dict) else params or None


def _environments() -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(path.name), (path / "environ").read_bytes()


def at_time(seconds: float) -> datetime:
    """A moment of `time.time()` as Postgres takes it."""
    return datetime.fromtimestamp(seconds, UTC)


def spread(samples: Sequence[float]) -> Mapping[str, float | None]:
    """p50, p99 (nearest rank) and max, in seconds."""
    ordered = sorted(samples)
    if not ordered:
        return {"p50": None, "p99": None, "max": None}
    last = len(ordered) - 1
    picks = {"p50": ordered[len(ordered) // 2], "p99": ordered[min(last, int(len(ordered) * 0.99))], "max": ordered[-1]}
    return {name: round(value, 3) for name, value in picks.items()}
