"""`holdfast worker` as a process of its own: it runs jobs, survives the death of its children, and stops cleanly."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Running, eventually, holdfast, running
from tests.support import Session, enqueue, events, job

APP = """
import asyncio
import os
from pathlib import Path
from holdfast import Context, Holdfast

hf = Holdfast()
not_an_app = 7
here = Path(__file__).parent


@hf.job()
async def add(a: int, b: int) -> int:
    return a + b


@hf.job()
async def wait_for_go(ctx: Context) -> str:
    (here / "waiting").touch()
    while not (here / "go").exists():
        await asyncio.sleep(0.02)
    return f"lease {ctx.lease}"


@hf.job()
async def hang_once(ctx: Context) -> str:
    if ctx.lease == 1:
        (here / "pid.new").write_text(str(os.getpid()))
        (here / "pid.new").rename(here / "pid")
        await asyncio.sleep(600)
    return f"ran in {os.getpid()}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(APP)
    return tmp_path


def ended(conn: Session, job_id: Any, status: str = "succeeded") -> Callable[[], Any]:
    def look() -> Any:
        row = job(conn, job_id)
        return row if row["status"] == status else None

    return look


def stopped(worker: Running) -> None:
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.explain()


def test_it_runs_only_the_kinds_that_it_was_told_and_names_its_schedules(
    database: str, conn: Session, folder: Path
) -> None:
    (folder / "tasks.py").write_text(
        APP + "\n\nhf.periodic('0 3 * * *', tz='Asia/Tokyo', name='nightly')(wait_for_go)\n"
    )
    left, done = enqueue(conn, kind="hang_once"), enqueue(conn, kind="add", args={"a": 2, "b": 3})
    with running("worker", "tasks:hf", "--kinds", "add", cwd=folder, DATABASE_URL=database) as worker:
        eventually(ended(conn, done), worker.explain)
        assert job(conn, left)["status"] == "queued"
        eventually(lambda: conn.execute("SELECT FROM holdfast.schedules").fetchall(), worker.explain)
        stopped(worker)
    assert "tasks:hf with 1 kind of job: add" in worker.text
    assert "schedules  nightly (0 3 * * * Asia/Tokyo)" in worker.text
    refused = holdfast("worker", "tasks:hf", "--kinds", "ad", cwd=folder, DATABASE_URL=database)
    assert (refused.code, refused.err) == (
        2,
        "error: this program has no kind of job 'ad'; it has add, hang_once, wait_for_go\n",
    )


def test_it_runs_jobs_and_ends_cleanly_on_sigterm(database: str, conn: Session, folder: Path) -> None:
    job_id = enqueue(conn, kind="add", args={"a": 2, "b": 3})
    with running("worker", "tasks:hf", "--slots", "3", cwd=folder, DATABASE_URL=database) as worker:
        assert eventually(ended(conn, job_id), worker.explain)["result"] == 5
        stopped(worker)
    assert "Holdfast 0." in worker.text
    assert re.search(r"database  database '\w+' at /", worker.text)
    assert "tasks:hf with 3 kinds of job: add, hang_once, wait_for_go" in worker.text
    assert "1 process with 3 slots each, on queue default" in worker.text
    assert "stop      Ctrl-C, or: kill " in worker.text
    assert worker.text.rstrip().endswith("stopped")
    gone = conn.execute("SELECT gone_reason FROM holdfast.workers").fetchall()
    assert [row["gone_reason"] for row in gone] == ["stopped"]


def test_a_handler_in_flight_is_finished(database: str, conn: Session, folder: Path) -> None:
    job_id = enqueue(conn, kind="wait_for_go")
    with running("worker", "--app", "tasks", cwd=folder, DATABASE_URL=database) as worker:
        eventually((folder / "waiting").exists, worker.explain)
        worker.signal(signal.SIGTERM)
        worker.says("stopping: running jobs get 30 s to finish")
        (folder / "go").touch()
        assert worker.ends() == 0, worker.explain()
    assert job(conn, job_id)["result"] == "lease 1"


def test_a_second_signal_kills(database: str, conn: Session, folder: Path) -> None:
    enqueue(conn, kind="wait_for_go")
    with running("worker", cwd=folder, DATABASE_URL=database, HOLDFAST_APP="tasks:hf") as worker:
        eventually((folder / "waiting").exists, worker.explain)
        worker.signal(signal.SIGINT)
        worker.says("once more kills them")
        worker.signal(signal.SIGINT)
        assert worker.ends() == 1, worker.explain()
    assert worker.text.rstrip().endswith("killed")


def test_the_jobs_of_a_killed_process_run_again(database: str, conn: Session, folder: Path) -> None:
    with running("worker", "tasks:hf", "--processes", "2", cwd=folder, DATABASE_URL=database) as worker:
        job_id = enqueue(conn, kind="hang_once")
        eventually((folder / "pid").exists, worker.explain)
        pid = int((folder / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        again = eventually(ended(conn, job_id), worker.explain)
        assert again["result"] != f"ran in {pid}"
        assert again["lease"] > 1
        assert [(event["event"], event["reason"]) for event in events(conn, job_id)] == [("crash", "worker_gone")]
        stopped(worker)


def test_the_processes_of_a_killed_supervisor_drain(database: str, conn: Session, folder: Path) -> None:
    with running("worker", "tasks:hf", cwd=folder, DATABASE_URL=database) as worker:
        worker.says("worker_started")
        worker.process.kill()
        worker.ends()
        stays = "SELECT FROM holdfast.workers WHERE gone_reason IS DISTINCT FROM 'stopped'"
        eventually(lambda: not conn.execute(stays.encode()).fetchall(), worker.explain)


def test_an_application_that_names_its_database_is_served_there(database: str, conn: Session, folder: Path) -> None:
    (folder / "own.py").write_text(APP.replace("Holdfast()", f"Holdfast({database!r})"))
    job_id = enqueue(conn, kind="add", args={"a": 1, "b": 1})
    with running("worker", "own", cwd=folder, DATABASE_URL="postgresql://u@127.0.0.1:1/elsewhere") as worker:
        eventually(ended(conn, job_id), worker.explain)
        stopped(worker)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "no application: name it as module:attribute, for example: holdfast worker tasks:hf"),
        (("nowhere:hf",), "there is no module 'nowhere' here"),
        (("tasks:nothing",), "module 'tasks' has no 'nothing'; it has hf"),
        (("tasks:not_an_app",), "tasks:not_an_app is a int, not a Holdfast"),
        (("broken",), "module 'broken' fails when imported: ZeroDivisionError"),
        (("tasks:hf", "--app", "other:hf"), "two applications are given"),
        (("tasks:hf", "--processes", "many"), "Invalid value for '--processes'"),
        (("tasks:hf", "--log-level", "loud"), "setting log_level from the command line"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(given: tuple[str, ...], said: str, folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0")
    answer = holdfast("worker", *given, cwd=folder)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_a_database_without_a_schema_is_not_worked_on(bare: str, folder: Path) -> None:
    answer = holdfast("worker", "tasks:hf", cwd=folder, DATABASE_URL=bare)
    assert answer.code == 1
    assert answer.err.startswith("error: the database lacks ")


ISOLATED = """
import os
import psycopg
from holdfast import Context, GiveUp, Holdfast

hf = Holdfast()


@hf.job(isolation="process", max_attempts=1)
def book(ctx: Context, crash: bool) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
        conn.execute("INSERT INTO effects VALUES (%s)", (str(ctx.job_id),))
        ctx.complete_sync(conn, result="in its own process")
    ctx.log.warning("said in its own process")
    if crash:
        os._exit(3)


@hf.job(isolation="process")
def refuse() -> None:
    raise GiveUp("in vain")
"""


def test_a_handler_in_a_process_of_its_own_settles_in_its_own_transaction(
    database: str, conn: Session, folder: Path
) -> None:
    """Also when it dies between its commit and its answer."""
    conn.execute("CREATE TABLE effects (job text)")
    (folder / "tasks.py").write_text(ISOLATED)
    ids = [enqueue(conn, kind="book", args={"crash": crash}) for crash in (False, True)]
    with running("worker", "tasks:hf", cwd=folder, DATABASE_URL=database) as worker:
        for job_id in ids:
            assert eventually(ended(conn, job_id), worker.explain)["result"] == "in its own process"
        worker.says(f"[book {ids[0]} attempt 1] said in its own process")
        refused = enqueue(conn, kind="refuse", max_attempts=10)
        assert eventually(ended(conn, refused, "dead"), worker.explain)["error"]["message"] == "in vain"
        stopped(worker)
    assert [events(conn, job_id) for job_id in ids] == [[], []]
    effects = {row["job"] for row in conn.execute("SELECT job FROM effects").fetchall()}
    assert effects == {str(job_id) for job_id in ids}
