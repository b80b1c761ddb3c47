"""Who is compared, with which settings; each with its defaults and, where it has such settings, told to be quick.

Quick means the same for all: 10 s of silence is a dead worker, which is the least that pg-boss takes, and whatever
looks for the dead does it each second or so.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import HERE, NotRun, node_peers, python_peers
from bench.sides import NODE_PEERS, PYTHON_PEERS

PROGRAMS = Path(__file__).resolve().parent / "programs"
DEFAULTS, QUICK = "its defaults", "quick"


@dataclass(frozen=True)
class System:
    """One column. `unfinished`: the SQL that names the jobs which the ledger does not call finished."""

    name: str
    version: str
    settings: str
    said: str
    unfinished: str
    program: Sequence[str]
    worker: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    supervised: bool = False

    @property
    def title(self) -> str:
        return f"{self.name}, {self.settings}"

    def environment_for(self, dsn: str) -> dict[str, str]:
        return {**os.environ, **self.environment, "DATABASE_URL": dsn}

    def install(self, dsn: str) -> None:
        if self.name != "Holdfast":
            self._ask(dsn, "install")

    def enqueue(self, dsn: str, first: int, count: int, seconds: float, again: float) -> None:
        self._ask(dsn, "enqueue", *map(str, (first, count, seconds, again)))

    def _ask(self, dsn: str, *what: str) -> None:
        done = subprocess.run(
            [*self.program, *what], env=self.environment_for(dsn), capture_output=True, timeout=60, check=False
        )
        if done.returncode:
            raise NotRun(f"{self.title}: {what[0]} failed: {done.stderr[-500:].decode(errors='replace')}")


def systems() -> list[System]:
    """All of them; installs the peers where they are missing."""
    python, node = python_peers(*PYTHON_PEERS, name="jobs"), node_peers(*NODE_PEERS, name="jobs")
    return [*_ours(), *_pgqueuer(python), *_procrastinate(python), *_boss(node), *_graphile(node)]


def _ours() -> list[System]:
    from importlib.metadata import version

    command = [sys.executable, "-m", "holdfast", "worker", "bench.faults.programs.ours:hf", "--slots", "10"]
    quick = {"HOLDFAST_BEAT_INTERVAL": "2", "HOLDFAST_LOST_AFTER": "10", "HOLDFAST_SWEEP_INTERVAL": "1"}

    def made(settings: str, said: str, environment: Mapping[str, str]) -> System:
        return System(
            "Holdfast", version("holdfast"), settings, said,
            "SELECT args->>'job' FROM holdfast.jobs WHERE status NOT IN ('succeeded', 'dead', 'cancelled')",
            [sys.executable, str(PROGRAMS / "ours.py")], [*command, "--log-level", "warning"],
            {"PYTHONPATH": str(HERE.parent), **environment}, supervised=True,
        )  # fmt: skip

    return [
        made(DEFAULTS, "a beat each 5 s, 25 s of silence, a sweep each 5 s", {}),
        made(QUICK, "beat_interval 2 s, lost_after 10 s, sweep_interval 1 s", quick),
    ]


def _peer(  # noqa: PLR0917
    name: str, version: str, settings: str, said: str, unfinished: str, program: Sequence[str],
    given: Mapping[str, Any], **environment: str,
) -> System:  # fmt: skip
    known = {"SETTINGS": json.dumps(given), **environment}
    return System(name, version, settings, said, unfinished, program, [*program, "work"], known)


def _pgqueuer(python: str) -> list[System]:
    program = [python, str(PROGRAMS / "pgqueuer_worker.py")]
    unfinished = "SELECT convert_from(payload, 'UTF8')::json->>'job' FROM pgqueuer"
    quick = {
        "pool": True,
        "seconds": {"heartbeat_timeout": 10, "dequeue_timeout": 1, "restart_delay": 1},
        "others": {"restart_on_failure": True},
    }
    return [
        _peer(
            "PgQueuer", "1.6.0", DEFAULTS, "heartbeat_timeout 30 s, dequeue_timeout 30 s, one connection",
            unfinished, program, {},
        ),
        _peer(
            "PgQueuer", "1.6.0", QUICK,
            "heartbeat_timeout 10 s, dequeue_timeout 1 s, restart_on_failure after 1 s, a pool of connections",
            unfinished, program, quick,
        ),
    ]  # fmt: skip


def _procrastinate(python: str) -> list[System]:
    program = [python, str(PROGRAMS / "procrastinate_worker.py")]
    unfinished = "SELECT args->>'job' FROM procrastinate_jobs WHERE task_name = 'fault' AND status IN ('todo', 'doing')"
    quick = {
        "task": {"retry": 10},
        "rescue": {"cron": "* * * * * *", "seconds_since_heartbeat": 10},
        "worker": {"update_heartbeat_interval": 2, "stalled_worker_timeout": 10, "fetch_job_polling_interval": 1},
    }
    return [
        _peer(
            "Procrastinate", "3.10.0", DEFAULTS, "a beat each 10 s; nobody retries what is stalled", unfinished,
            program, {},
        ),
        _peer(
            "Procrastinate", "3.10.0", QUICK,
            "its documented task that retries stalled jobs, each second; a beat each 2 s, stalled after 10 s, polls"
            " each second, retry 10", unfinished, program, quick,
        ),
    ]  # fmt: skip


def _boss(node: Path) -> list[System]:
    program = [str(node / "node_modules" / "node" / "bin" / "node"), str(PROGRAMS / "node_worker.mjs"), "boss"]
    unfinished = "SELECT data->>'job' FROM pgboss.job WHERE name = 'fault' AND state < 'completed'"
    quick = {
        "options": {"useListenNotify": True, "superviseIntervalSeconds": 1, "monitorIntervalSeconds": 1},
        "queue": {"heartbeatSeconds": 10, "notify": True, "retryLimit": 10},
        "work": {"pollingIntervalSeconds": 0.5, "notifyPollingIntervalSeconds": 0.5, "heartbeatRefreshSeconds": 2},
    }
    return [
        _peer(
            "pg-boss", "12.38.0", DEFAULTS, "no heartbeat, a job expires after 15 min, supervised each 60 s",
            unfinished, program, {}, NODE_PEERS=str(node),
        ),
        _peer(
            "pg-boss", "12.38.0", QUICK,
            "heartbeatSeconds 10, refreshed each 2 s, supervised each second, NOTIFY, polls each 0.5 s, retryLimit 10",
            unfinished, program, quick, NODE_PEERS=str(node),
        ),
    ]  # fmt: skip


def _graphile(node: Path) -> list[System]:
    program = [str(node / "node_modules" / "node" / "bin" / "node"), str(PROGRAMS / "node_worker.mjs"), "graphile"]
    unfinished = "SELECT payload->>'job' FROM graphile_worker._private_jobs"
    said = "a lock is dead after 4 h, which its open version has no setting for"
    return [
        _peer("graphile-worker", "0.18.0", DEFAULTS, said, unfinished, program, {}, NODE_PEERS=str(node)),
    ]
