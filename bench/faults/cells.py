"""The faults, and one cell: a system in a fault, from an empty Postgres to the findings."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench import servers
from bench.faults.checker import Events, judge
from bench.faults.fleet import Fleet, lives, pause, snapshot, until
from bench.faults.server import Server
from bench.faults.systems import System

#: Seconds after the fault at which a cell stops to wait.
WAIT = 150.0
FROZEN = 60.0
SECONDS, JOBS = 1.0, 60
#: Where there must be work left afterwards.
MANY = 200
#: How long a frozen job's next run takes: so it is still under way when the frozen one wakes up.
LONG = 55.0


@dataclass(frozen=True)
class Fault:
    """`strike` does it and returns when it began. `only_supervised`: for the others it is another fault's twin."""

    strike: Callable[[Fleet], float]
    jobs: int = JOBS
    again: float = SECONDS
    only_supervised: bool = False


def kill(fleet: Fleet) -> float:
    return fleet.strike(signal.SIGKILL, [fleet.victim()])


def kill_whole(fleet: Fleet) -> float:
    return fleet.strike(signal.SIGKILL, fleet.whole(fleet.victim()))


def kill_thrice(fleet: Fleet) -> float:
    """One worker, and whoever takes its place as soon as it is at work; the other one is left alone."""
    first = fleet.victim()
    others = set(fleet.under_way()) - {first}
    began = fleet.strike(signal.SIGKILL, [first])
    for _ in range(2):
        until(lambda: set(fleet.under_way()) - others - fleet.victims, "the killed worker's successor is at work", 60)
        fleet.strike(signal.SIGKILL, [next(iter(set(fleet.under_way()) - others - fleet.victims))])
    return began


def freeze(fleet: Fleet) -> float:
    pids = [fleet.victim()]
    at = fleet.strike(signal.SIGSTOP, pids)
    pause(FROZEN)
    fleet.thaw([pid for pid in pids if lives(pid)], at)
    return at


def freeze_whole(fleet: Fleet) -> float:
    pids = fleet.whole(fleet.victim())
    at = fleet.strike(signal.SIGSTOP, pids)
    pause(FROZEN)
    fleet.thaw([pid for pid in pids if lives(pid)], at)
    return at


def restart(fleet: Fleet) -> float:
    at = time.time()
    fleet.server.stop()
    fleet.server.start()
    return at


def crash(fleet: Fleet) -> float:
    at = time.time()
    fleet.server.kill()
    fleet.server.start()
    return at


def terminate(fleet: Fleet) -> float:
    at = time.time()
    with psycopg.connect(fleet.server.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    return at


def hold_snapshot(fleet: Fleet) -> float:
    at = time.time()
    with snapshot(fleet.server.dsn):
        pause(FROZEN - 10)
        fleet.system.enqueue(fleet.server.dsn, JOBS, JOBS, SECONDS, SECONDS)
        pause(10)
    return at


FAULTS: Mapping[str, Fault] = {
    "worker SIGKILL": Fault(kill),
    "worker and its supervisor SIGKILL": Fault(kill_whole, only_supervised=True),
    "worker SIGKILL, three times in a row": Fault(kill_thrice, jobs=MANY),
    "worker SIGSTOP for 60 s": Fault(freeze, again=LONG),
    "worker and its supervisor SIGSTOP for 60 s": Fault(freeze_whole, again=LONG, only_supervised=True),
    "Postgres restarted": Fault(restart, jobs=MANY),
    "Postgres SIGKILL and restart": Fault(crash, jobs=MANY),
    "all sessions terminated": Fault(terminate, jobs=MANY),
    "a snapshot is held for 60 s": Fault(hold_snapshot),
}


def cell(system: System, name: str) -> dict[str, Any]:
    """Do it once; what `docs/peers.json` keeps of a round."""
    fault = FAULTS[name]
    with servers.folder() as base, Server(base, migrated=system.name == "Holdfast") as server:
        system.install(server.dsn)
        with Fleet(system, server, base / "workers.log") as fleet:
            fleet.warm_up()
            system.enqueue(server.dsn, 0, fault.jobs, SECONDS, fault.again)
            fleet.busy()
            fault_at = fault.strike(fleet)
            over_at = time.time()
            jobs = {f"j{n}" for n in range(fault.jobs + (JOBS if fault.strike is hold_snapshot else 0))}
            _wait(fleet, jobs, fault_at + WAIT)
            events = Events(
                fault_at, over_at, time.time(), jobs, fleet.hits, dict(fleet.deaths), fleet.frozen,
                fleet.unfinished() or set(), fleet.finished_early,
            )  # fmt: skip
            found = asdict(judge(fleet.notes(), events))
            return {**found, "restarts": fleet.restarts, "log": _tail(base / "workers.log")}


def _wait(fleet: Fleet, jobs: set[str], end: float) -> None:
    """Until all jobs have ended, the ledger knows it, and nobody is at work any more."""
    while time.time() < end:
        done = {note.job for note in fleet.notes() if note.what == "end"}
        if jobs <= done and fleet.unfinished() == set() and not fleet.under_way():
            return
        pause(0.25)


def _tail(log: Path) -> str:
    return log.read_bytes()[-3000:].decode(errors="replace")
