"""Handlers in processes of their own: real ones, that fork, and outlive what they may not outlive."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast import Holdfast
from holdfast.app import new_id
from holdfast.cli.loading import load_app
from holdfast.core.lease import LeaseTimings
from holdfast.events import Sinks
from holdfast.services.worker import Worker
from tests import support
from tests.services.helpers import Recorder, until, worker_settings
from tests.services.supervised import MODULE, supervising
from tests.support import Session

#: What runs in a process of its own, and what stands beside it in the worker's.
APP = """
import os, signal, time

from holdfast import Context, Holdfast

hf = Holdfast()


@hf.job(isolation="process", max_attempts=1)
def ticks(log: str, marker: str) -> str:
    with open(log, "a", buffering=1) as file:
        while not os.path.exists(marker):
            print(os.getpid(), time.time(), file=file)
            time.sleep(0.01)
    return "ended"


@hf.job(isolation="process", max_attempts=1)
def leaves_a_child_and_dies(log: str) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
    with open(log, "w") as file:
        file.write(str(child))
    os.kill(os.getpid(), signal.SIGKILL)


@hf.job(isolation="process", max_attempts=1)
async def snoozes_within_a_catch_all(ctx: Context) -> str:
    try:
        ctx.snooze(3600)
    except Exception:
        return "caught"


@hf.job()
async def blocks_the_loop(seconds: float) -> None:
    time.sleep(seconds)
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processes find the handlers."""
    (tmp_path / f"{MODULE}.py").write_text(APP)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Holdfast:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, MODULE, raising=False)
    return load_app(MODULE)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@asynccontextmanager
async def working(dsn: str, app: Holdfast, **changes: Any) -> AsyncIterator[Worker]:
    """A worker in this process; it may not end it."""
    worker = Worker(
        dsn, app.kinds, worker_settings(app, **changes), worker_id=new_id(), app=MODULE,
        sinks=Sinks([Recorder()]), exit_process=lambda _: None,
    )  # fmt: skip
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.drain()
        await asyncio.wait_for(task, 30)


def put(conn: Session, kind: str, **args: object) -> UUID:
    return support.enqueue(conn, id=new_id(), kind=kind, args=args, max_attempts=1)


def ended(conn: Session, job_id: UUID) -> Callable[[], bool]:
    return lambda: support.job(conn, job_id)["finished_at"] is not None


async def test_a_process_that_dies_is_seen_to_die_whatever_it_has_forked(
    database: str, conn: Session, app: Holdfast, log: Path
) -> None:
    job = put(conn, "leaves_a_child_and_dies", log=str(log))
    async with working(database, app):
        try:
            await until(ended(conn, job))
        finally:
            os.kill(int(log.read_text()), signal.SIGKILL)
    assert support.job(conn, job)["error"]["type"] == "ProcessCrashed"


async def test_a_loop_that_stands_still_costs_an_isolated_neighbour_no_attempt(
    database: str, conn: Session, app: Holdfast, log: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    job = put(conn, "ticks", log=str(log), marker=str(marker))
    async with working(database, app, timings=LeaseTimings(beat_interval=0.2, lost_after=6.0)):
        await until(log.exists)
        blocking = put(conn, "blocks_the_loop", seconds=7.0)
        await until(ended(conn, blocking))
        await until(lambda: len({line.split()[0] for line in log.read_text().splitlines()}) == 2, "it runs again")
        marker.touch()
        await until(ended(conn, job))
    row = support.job(conn, job)
    assert (row["status"], row["result"], row["attempts"]) == ("succeeded", "ended", 0)


async def test_an_isolated_handler_that_catches_every_exception_still_snoozes(
    app: Holdfast, database: str, conn: Session
) -> None:
    async with working(database, app):
        job_id = put(conn, "snoozes_within_a_catch_all")
        await until(lambda: support.job(conn, job_id)["settled_as"] is not None)
    row = support.job(conn, job_id)
    assert (row["status"], row["settled_as"], row["attempts"]) == ("queued", "snooze", 0)


async def test_the_process_of_a_handler_ends_before_its_frozen_worker_may_be_declared_gone(
    database: str, conn: Session, log: Path
) -> None:
    times = {"beat_interval": 3.0, "lost_after": 9.0, "stale_after": 60.0}
    async with supervising(database, silence=60, **times) as running:
        ((worker_id, pid),) = (await until(running.supervisor.workers)).items()
        await until(lambda: _age(conn, worker_id) > 2.0, "its next beat is due soon")
        put(conn, "ticks", log=str(log), marker="/nowhere")
        await until(log.exists)
        os.kill(pid, signal.SIGSTOP)
        support.calm(conn)
        await until(lambda: support.worker(conn, worker_id)["gone_at"])
        gone_at = support.worker(conn, worker_id)["gone_at"].timestamp()
        child = int(log.read_text().split()[0])
        await until(lambda: not Path(f"/proc/{child}/exe").exists())
    assert float(log.read_text().splitlines()[-1].split()[1]) < gone_at


def _age(conn: Session, worker_id: UUID) -> float:
    found = support.rows(conn, "SELECT seen_at FROM holdfast.workers WHERE id = %s", worker_id)
    return (support.clock(conn) - found[0]["seen_at"]).total_seconds() if found else 0.0
