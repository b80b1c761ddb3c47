"""Two worker processes of one system, what they noted, and a service manager that starts them again."""

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from bench.faults.checker import Hit, Note
from bench.faults.server import Server
from bench.faults.systems import System
from bench.harness import NotRun

MARK = "FAULTS_CELL"
#: Seconds that the service manager waits before it starts a process again.
RESTART_AFTER = 1.0
LOOK = 0.05
#: Jobs to warm up with count down from -1.
WARM = 40
NOTES = b"""
SELECT job, run::text, pid, what, extract(epoch FROM at)::float8 FROM faults.notes WHERE job NOT LIKE 'j-%' ORDER BY at
"""
#: Set when the run is interrupted: all waits end, and with them the cells and their processes.
STOP = threading.Event()
WARMED = b"SELECT count(DISTINCT pid) FROM faults.notes"


class Fleet:
    """Used by `with`: starts the workers, and ends every process that carries its mark."""

    def __init__(self, system: System, server: Server, log: Path) -> None:
        self.system = system
        self.server = server
        self.restarts = 0
        self.deaths: dict[int, float] = {}
        self.frozen: dict[int, tuple[float, float]] = {}
        self.hits: list[Hit] = []
        self.finished_early: set[str] = set()
        self.victims: set[int] = set()
        self._log = log
        self._mark = uuid.uuid4().hex
        self._mains: list[subprocess.Popen[bytes]] = []
        self._known: set[int] = set()
        self._notes: list[Note] = []
        self._stopping = threading.Event()
        self._manager = threading.Thread(target=self._manage, daemon=True)

    def __enter__(self) -> "Fleet":
        self._mains = [self._start() for _ in range(2)]
        self._manager.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._manager.join(10)
        end = time.monotonic() + 20
        while (left := self._marked()) and time.monotonic() < end:
            for pid in left:
                _send(pid, signal.SIGKILL)
            time.sleep(LOOK)  # not `pause`: it has to end also then
        for each in self._mains:
            each.wait(5)

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {**self.system.environment_for(self.server.dsn), MARK: self._mark}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self.system.worker, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def _manage(self) -> None:
        ended: dict[int, float] = {}
        while not self._stopping.wait(LOOK):
            for place, main in enumerate(self._mains):
                if main.poll() is None:
                    continue
                if time.monotonic() > ended.setdefault(main.pid, time.monotonic()) + RESTART_AFTER:
                    self.restarts += 1
                    self._mains[place] = self._start()
            for pid in self._known - set(self.deaths):
                if not lives(pid):
                    self.deaths[pid] = time.time()

    def _marked(self) -> list[int]:
        """All processes of this fleet, also those that nobody waits for any more."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                pid = int(entry.name)
                if f"{MARK}={self._mark}".encode() in (entry / "environ").read_bytes() and lives(pid):
                    found.append(pid)
        return found

    # What was noted ------------------------------------------------------

    def notes(self) -> list[Note]:
        """All notes so far; those known before while Postgres is away."""
        rows = self._read(NOTES)
        if rows is not None:
            self._notes = [Note(*row) for row in rows]
            self._known = self._known | {note.pid for note in self._notes}
        return self._notes

    def unfinished(self) -> set[str] | None:
        """The jobs that the ledger does not call finished; None while Postgres is away."""
        rows = self._read(self.system.unfinished.encode())
        return None if rows is None else {row[0] for row in rows}

    def _read(self, query: bytes) -> list[tuple[Any, ...]] | None:
        try:
            with psycopg.connect(self.server.dsn, autocommit=True, connect_timeout=5) as connection:
                return connection.execute(query).fetchall()
        except psycopg.Error:
            return None

    def under_way(self) -> dict[int, list[Note]]:
        """The begin notes of runs without an end, by live process."""
        notes = self.notes()
        ended = {note.run for note in notes if note.what != "begin"}
        found: dict[int, list[Note]] = {}
        for note in notes:
            if note.what == "begin" and note.run not in ended and lives(note.pid):
                found.setdefault(note.pid, []).append(note)
        return found

    # What is done to them ------------------------------------------------

    def warm_up(self) -> None:
        """Let both workers run something, so that they take part from the first job that counts."""
        self.system.enqueue(self.server.dsn, -WARM, WARM, 0.2, 0.2)
        end = time.monotonic() + 60
        while self._read(WARMED) != [(2,)]:
            if time.monotonic() > end:
                raise NotRun(f"not both workers are at work after 60 s; see {self._log.name}")
            pause(0.2)
            if self.unfinished() == set():
                self.system.enqueue(self.server.dsn, -WARM, WARM, 0.2, 0.2)
        until(lambda: self.unfinished() == set(), "the warming up ends", 60)

    def busy(self, slots: int = 5) -> None:
        """Wait until both workers are in the middle of so many jobs at least."""
        until(lambda: sum(len(each) >= slots for each in self.under_way().values()) >= 2, "both workers are busy", 40)
        pause(0.25)  # what they have claimed already is begun

    def victim(self) -> int:
        """The process with the most runs under way."""
        found = self.under_way()
        return max(found, key=lambda pid: len(found[pid]))

    def whole(self, pid: int) -> Sequence[int]:
        """A worker process and the supervisor above it, where there is one; the supervisor first."""
        main = next((each.pid for each in self._mains if pid == each.pid or pid in _below(each.pid)), pid)
        return [main, *_below(main)]

    def strike(self, number: signal.Signals, pids: Sequence[int]) -> float:
        """Signal them, and remember which runs that hit; when."""
        for pid in pids:
            _send(pid, signal.SIGSTOP)  # so that what was under way is read from a standing picture
        under_way = self.under_way()
        at = time.time()
        for pid in pids:
            _send(pid, number)
        self.hits += [Hit(note.job, note.run, at) for pid in pids for note in under_way.get(pid, ())]
        self.victims |= set(pids)
        return at

    def thaw(self, pids: Sequence[int], since: float) -> None:
        """Let them go on, and look whether the ledger takes their late word while a later run is under way."""
        at = time.time()
        self.frozen |= dict.fromkeys(pids, (since, at))
        for pid in pids:
            _send(pid, signal.SIGCONT)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            later = {note.job for pid, each in self.under_way().items() if pid not in pids for note in each}
            unfinished = self.unfinished()
            still = {note.job for pid, each in self.under_way().items() if pid not in pids for note in each}
            if unfinished is not None:
                self.finished_early |= (later & still) - unfinished
            pause(LOOK)


def until(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Wait until it holds; NotRun after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise NotRun(f"not within {seconds:g} s: {what}")
        pause(LOOK)


def pause(seconds: float) -> None:
    """Sleep; NotRun as soon as the run is interrupted."""
    if STOP.wait(seconds):
        raise NotRun("interrupted")


def lives(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _below(pid: int) -> list[int]:
    try:
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_below(child))]


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def snapshot(dsn: str) -> Iterator[None]:
    """A snapshot that somebody holds open elsewhere."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM faults.notes")
        yield
