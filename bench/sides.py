"""Holdfast and its peers, each ready to be given jobs: what the groups about jobs measure.

A side enqueues through a process of its own that stays, and works in processes that are started for each measurement,
as its users start them. Every run writes a line with the time of the system's monotonic clock, all sides to the same
kind of file in memory: so the rate is counted in the same way for all, from the first run to the last.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import HERE, NotRun, Worker, node_peers, python_peers

PYTHON_PEERS = (
    "pgqueuer==1.6.0",
    "asyncpg==0.32.0",
    "uvloop==0.23.0",
    "procrastinate==3.10.0",
    "psycopg[binary]==3.3.9",
)
NODE_PEERS = ("pg-boss@12.38.0", "graphile-worker@0.18.0", "node@24.21.0", "pg@8")
#: Seconds that a drain may take at most.
PATIENCE = 90.0


@dataclass
class Side:
    """One way to run jobs. `worker` gives the command that starts a worker for these options."""

    name: str
    dsn: str
    runs: Path
    control: Worker
    worker: Callable[..., Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)

    def ask(self, **what: Any) -> dict[str, Any]:
        return self.control.ask(**what)

    def drain(self, count: int, fill: Callable[[], object] | None = None, **options: Any) -> float:
        """Jobs a second, from the first run to the last, with the table as it is apart from these jobs."""
        self.ask(do="empty")
        if fill is None:
            self.ask(do="many", count=count)
            self.ask(do="vacuum")
        else:
            fill()
        with self.working(**options):
            stamps = self.stamps(count)
            end = time.monotonic() + 15
            while self.ask(do="left")["left"]:
                if time.monotonic() > end:
                    raise NotRun(f"{self.name} left jobs unfinished")
                time.sleep(0.05)
        return (count - 1) / ((stamps[-1] - stamps[0]) / 1e9)

    def stamps(self, count: int) -> list[int]:
        """The times of the first `count` runs (ns), once there were so many."""
        end = time.monotonic() + PATIENCE
        while self.runs.stat().st_size < count * 21:
            if time.monotonic() > end:
                raise NotRun(f"{self.name} ran {self.runs.stat().st_size // 21} of {count} jobs in {PATIENCE:g} s")
            time.sleep(0.002)
        return sorted(int(line) for line in self.runs.read_bytes().split())[:count]

    @contextlib.contextmanager
    def working(self, *, settled: float = 0.0, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker, from a clean sheet, stopped at the end; wait `settled` seconds until it is idle and listens."""
        self.runs.write_bytes(b"")
        log = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            self.worker(**options),
            env={**os.environ, **self.environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            time.sleep(settled)
            yield process
            if process.poll() not in (None, 0):
                log.seek(0)
                raise NotRun(f"{self.name}'s worker ended with {process.returncode}: {log.read()[-500:].decode()}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Sides:
    """Those of one server, each made when it is first asked for."""

    def __init__(self, dsn: str, start: Callable[..., Worker], memory: Path) -> None:
        self.dsn = dsn
        self._start = start
        self._memory = memory
        self._made: dict[str, Side] = {}

    def __getattr__(self, name: str) -> Side:
        if name.startswith("_") or name not in ("ours", "pgqueuer", "procrastinate", "boss", "graphile"):
            raise AttributeError(name)
        if name not in self._made:
            self._made[name] = getattr(self, f"_{name}")()
        return self._made[name]

    def _runs(self, name: str) -> Path:
        path = self._memory / name
        path.write_bytes(b"")
        return path

    def _ours(self) -> Side:
        return ours(self.dsn, self._start, self._runs("ours"))

    def _pgqueuer(self) -> Side:
        return self._python("pgqueuer", lambda command, batch: [*command, "work", str(batch)])

    def _procrastinate(self) -> Side:
        return self._python("procrastinate", lambda command, concurrency: [*command, "work", str(concurrency)])

    def _boss(self) -> Side:
        return self._node("boss")

    def _graphile(self) -> Side:
        return self._node("graphile")

    def _python(self, name: str, worker: Callable[..., Sequence[str]]) -> Side:
        runs = self._runs(name)
        command = [
            python_peers(*PYTHON_PEERS, name="jobs"),
            str(HERE / "peers" / f"{name}_jobs.py"),
            self.dsn,
            str(runs),
        ]
        side = Side(name, self.dsn, runs, self._start(*command), lambda **options: worker(command, **options))
        side.ask(do="install")
        return side

    def _node(self, name: str) -> Side:
        folder, runs = node_peers(*NODE_PEERS, name="jobs"), self._runs(name)
        program = str(folder / "node_modules" / "node" / "bin" / "node")
        command = [program, str(HERE / "peers" / "node_jobs.mjs"), name, self.dsn, str(runs)]
        environment = {"NODE_PEERS": str(folder)}
        control = self._start(*command, **environment)
        return Side(name, self.dsn, runs, control, lambda batch: [*command, "work", str(batch)], environment)


def ours(dsn: str, start: Callable[..., Worker], runs: Path) -> Side:
    """Holdfast, as its users start it, with all defaults but slots and processes."""
    environment = {"DATABASE_URL": dsn, "BENCH_RUNS": str(runs), "PYTHONPATH": str(HERE.parent)}

    def worker(slots: int, processes: int = 1) -> Sequence[str]:
        command = [sys.executable, "-m", "holdfast", "worker", "bench.jobs_app:hf", "--log-level", "warning"]
        return [*command, "--slots", str(slots), "--processes", str(processes)]

    return Side("Holdfast", dsn, runs, start(sys.executable, str(HERE / "jobs_ours.py"), dsn), worker, environment)


@contextlib.contextmanager
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    with tempfile.TemporaryDirectory(
        prefix="holdfast-bench-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None
    ) as made:
        yield Path(made)


def settings() -> dict[str, str]:
    """What the groups about jobs say of their sides."""
    return {
        "peers": ", ".join([*PYTHON_PEERS, *NODE_PEERS]),
        "jobs": "a no-op with a 200-byte payload",
        "durability": "fsync and synchronous_commit on for everybody",
        "open files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    }
