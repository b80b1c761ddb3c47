"""Real processes: killed, crashing, blocked, stubborn, orphaned. Judged by the ledger's own timestamps."""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from holdfast.app import new_id
from holdfast.core.counts import Counts
from holdfast.core.frames import frame
from holdfast.core.metrics import SENT
from holdfast.events import ChildDied, ChildStarted, JobRescued, Sinks, WorkerMarkedGone
from holdfast.services.supervisor import (
    LAST_WORD,
    ChildSpec,
    Supervisor,
    SupervisorSettings,
    _Child,
    _gone_reason,
)
from holdfast.services.watchdog import FENCED_EXIT_CODE, STUCK_EXIT_CODE
from holdfast.services.worker import EXIT_GONE, EXIT_LEFTOVERS, EXIT_STOPPED
from tests import support
from tests.services.helpers import until
from tests.services.supervised import APP, MODULE, supervising
from tests.support import Session

ROOT = Path(__file__).parent.parent.parent

#: A second is promised (P3); the rest is slack for a busy machine. No time-out of ours is as short.
AT_ONCE = timedelta(seconds=1 + 5)


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the worker processes find the handlers."""
    (tmp_path / f"{MODULE}.py").write_text(APP)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The kind `hold` runs until this file exists."""
    return tmp_path / "marker"


def put(conn: Session, kind: str, **args: object) -> UUID:
    return support.enqueue(conn, id=new_id(), kind=kind, args=args)


def status(conn: Session, *ids: UUID) -> set[str]:
    return {support.job(conn, each)["status"] for each in ids}


def is_alive(pid: int) -> bool:
    """A zombie is dead: in a container nobody may reap it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def workers(conn: Session) -> list[support.Row]:
    return support.rows(conn, "SELECT * FROM holdfast.workers ORDER BY started_at")


async def test_what_a_child_says_is_understood_however_it_is_cut(database: str) -> None:
    """Signs of life, counts and last words share one stream."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    made = Supervisor(database, [], SupervisorSettings(), supervisor_id=new_id(), new_id=new_id, sinks=Sinks())
    child = _Child(ChildSpec("worker-1", lambda *_: ([], {})), new_id(), cast(Any, None), ours, 0.0, 0.0, 0.0)
    counts = Counts()
    counts.add(SENT, ("slack", "delivered"), 3)
    said = b"." + frame(counts.as_json()) + b"p" + bytes((LAST_WORD, EXIT_GONE))
    for byte in said:
        theirs.send(bytes([byte]))
        assert made._hear(child)
    assert not made._hear(child)
    theirs.close()
    assert child.progressed_at > 0.0
    assert child.said == EXIT_GONE
    assert list(child.counts.of(SENT)) == [(("slack", "delivered"), 3)]
    ours.close()


async def test_jobs_of_a_killed_worker_are_claimable_at_once_and_its_children_die_with_it(
    database: str, conn: Session, marker: Path
) -> None:
    held = [put(conn, "hold", marker=str(marker)) for _ in range(3)]
    family = put(conn, "parent")
    async with supervising(database) as running:
        await until(lambda: status(conn, *held, family) == {"running"} and support.job(conn, family)["progress"])
        grandchild = support.job(conn, family)["progress"]
        assert is_alive(grandchild)
        ((worker_id, pid),) = running.supervisor.workers().items()
        killed_at = support.clock(conn)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: all(support.events(conn, each) for each in [*held, family]))
        marker.touch()
        await until(lambda: status(conn, *held, family) == {"succeeded"})
        assert [(event.code, event.killed_for) for event in running.recorder.of(ChildDied)] == [(-signal.SIGKILL, None)]
        assert len(running.recorder.of(ChildStarted)) == 2
        assert len(running.recorder.of(JobRescued)) == 4
        assert [(event.worker_id, event.cause, event.is_crash) for event in running.recorder.of(WorkerMarkedGone)] == [
            (worker_id, "crashed", True)
        ]
    assert not is_alive(grandchild)
    gone = support.worker(conn, worker_id)
    assert gone["gone_reason"] == "crashed"
    assert timedelta(0) <= gone["gone_at"] - killed_at < AT_ONCE
    for each in [*held, family]:
        (event,) = support.events(conn, each)
        assert (event["event"], event["reason"], event["worker_id"]) == ("crash", "worker_gone", worker_id)
        assert gone["gone_at"] <= event["at"] < killed_at + AT_ONCE
        row = support.job(conn, each)
        assert row["run_at"] <= event["at"]
        assert row["worker_id"] != worker_id
        assert (row["lease"], row["result"], row["attempts"]) == (3, 3, 0)


async def test_a_worker_whose_row_is_locked_is_followed_at_once_and_declared_gone_later(
    database: str, conn: Session, connect: Callable[[], Session], marker: Path
) -> None:
    held = put(conn, "hold", marker=str(marker))
    async with supervising(database) as running:
        await until(lambda: status(conn, held) == {"running"})
        ((worker_id, pid),) = running.supervisor.workers().items()
        locking = connect()
        with locking.transaction():
            locking.execute("SELECT FROM holdfast.workers WHERE id = %s FOR UPDATE", (worker_id,))
            os.kill(pid, signal.SIGKILL)
            await until(lambda: len(workers(conn)) == 2)
            late = put(conn, "innocent", n=1)
            await until(lambda: status(conn, late) == {"succeeded"})
            assert support.worker(conn, worker_id)["gone_at"] is None
        marker.touch()
        await until(lambda: status(conn, held) == {"succeeded"})
    assert support.worker(conn, worker_id)["gone_reason"] == "crashed"


@pytest.mark.parametrize("code", [EXIT_STOPPED, EXIT_LEFTOVERS, EXIT_GONE, FENCED_EXIT_CODE])
async def test_a_handler_that_ends_its_process_with_a_code_of_ours_is_a_crash_all_the_same(
    database: str, conn: Session, code: int
) -> None:
    poison = put(conn, "exits", code=code)
    async with supervising(database):
        await until(lambda: support.job(conn, poison)["shared_crashes"] == 1)
    assert workers(conn)[0]["gone_reason"] == "crashed"


async def test_a_worker_whose_loop_is_broken_ends_with_all_its_threads(database: str, conn: Session) -> None:
    put(conn, "breaks_the_worker")
    async with supervising(database) as running:
        await until(lambda: workers(conn))
        worker_id, pid = workers(conn)[0]["id"], workers(conn)[0]["pid"]
        await until(lambda: [event for event in running.recorder.of(ChildDied) if event.pid == pid])
        assert not is_alive(pid)
        await until(lambda: support.worker(conn, worker_id)["gone_at"])
    (died,) = [event for event in running.recorder.of(ChildDied) if event.pid == pid]
    assert (died.code, died.killed_for) == (1, None)


async def test_a_stop_lets_jobs_finish_and_is_no_crash(database: str, conn: Session, marker: Path) -> None:
    held = [put(conn, "hold", marker=str(marker)) for _ in range(4)]
    async with supervising(database, processes=2, slots=2) as running:
        await until(lambda: status(conn, *held) == {"running"})
        running.supervisor.stop()
        await until(lambda: all(each["draining"] for each in workers(conn)))
        late = put(conn, "innocent", n=1)
        marker.touch()
        await running.stopped_by_itself()
    assert {(event.code, event.killed_for) for event in running.recorder.of(ChildDied)} == {(0, None)}
    assert [(each["gone_reason"], each["gone_is_crash"]) for each in workers(conn)] == [("stopped", False)] * 2
    assert {(row["status"], row["lease"]) for row in (support.job(conn, each) for each in held)} == {("succeeded", 1)}
    assert support.job(conn, late)["lease"] == 0


async def test_workers_whose_supervisor_was_killed_finish_their_jobs_and_end_by_themselves(
    database: str, conn: Session, marker: Path
) -> None:
    held = put(conn, "hold", marker=str(marker))
    supervisor = subprocess.Popen([sys.executable, "-m", "tests.services.supervised", database, "1"], cwd=ROOT)
    try:
        await until(lambda: status(conn, held) == {"running"})
        (worker,) = workers(conn)
        assert is_alive(worker["pid"])
        supervisor.kill()
        supervisor.wait(20)
        await until(lambda: support.worker(conn, worker["id"])["draining"])
        late = put(conn, "innocent", n=1)
        marker.touch()
        await until(lambda: not is_alive(worker["pid"]))
    finally:
        supervisor.kill()
        supervisor.wait(20)
        for each in workers(conn):
            if is_alive(each["pid"]):
                os.killpg(each["pid"], signal.SIGKILL)
    row = support.job(conn, held)
    assert (row["status"], row["lease"]) == ("succeeded", 1)
    assert support.worker(conn, worker["id"])["gone_reason"] == "stopped"
    assert support.job(conn, late)["lease"] == 0


async def test_a_process_that_cannot_be_started_is_tried_again_and_the_others_go_on(
    database: str, conn: Session
) -> None:
    supervisor = subprocess.Popen([sys.executable, "-m", "tests.services.supervised", database, "2"], cwd=ROOT)
    try:
        await until(lambda: len(workers(conn)) == 2)
        killed, other = workers(conn)
        _, most = resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (4, most))  # not one more than it has
        os.kill(killed["pid"], signal.SIGKILL)
        await until(lambda: support.worker(conn, killed["id"])["gone_at"] or supervisor.poll() is not None)
        job = put(conn, "innocent", n=1)
        await until(lambda: status(conn, job) == {"succeeded"})
        assert support.worker(conn, other["id"])["gone_at"] is None
        resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (most, most))
        await until(lambda: len(workers(conn)) == 3)
    finally:
        supervisor.kill()
        supervisor.wait(20)
        for each in workers(conn):
            if is_alive(each["pid"]):
                os.killpg(each["pid"], signal.SIGKILL)
    assert support.worker(conn, killed["id"])["gone_reason"] == "crashed"


async def test_poison_ends_dead_in_quarantine_and_its_neighbours_succeed(database: str, conn: Session) -> None:
    poison = [put(conn, kind) for kind in ("exits", "segfaults")]
    innocents = [put(conn, "innocent", n=n) for n in range(12)]

    def all_ended() -> bool:
        conn.execute("UPDATE holdfast.jobs SET run_at = holdfast.clock() WHERE status = 'queued'")  # no back-off
        return status(conn, *poison, *innocents) <= {"succeeded", "dead"}

    async with supervising(database, quarantine=True) as running:
        await until(all_ended, seconds=60)
        await running.stopped()
    assert status(conn, *innocents) == {"succeeded"}
    quarantined = {each["id"] for each in workers(conn) if each["quarantine"]}
    for each in poison:
        row = support.job(conn, each)
        assert (row["status"], row["crashes"], row["suspect"], row["attempts"]) == ("dead", 3, True, 0)
        assert row["error"] == {
            "type": "worker_gone", "message": "crashed its process 3 times while it ran alone",
        }  # fmt: skip
        assert row["fingerprint"] == f"rescue:worker_gone:{row['kind']}"
        events = support.events(conn, each)
        assert [event["event"] for event in events] == ["crash"] * 5
        assert [event["details"]["alone"] for event in events] == [False, False, True, True, True]
        assert [event["worker_id"] in quarantined for event in events] == [False, False, True, True, True]
    assert {each["gone_reason"] for each in workers(conn)} <= {"crashed", "stopped"}


async def test_a_handler_that_blocks_the_event_loop_for_a_while_is_not_killed(database: str, conn: Session) -> None:
    lost_after, silence, blocked = 4.0, 3.0, 4.5
    job = put(conn, "blocks_the_loop", seconds=blocked)
    async with supervising(database, lost_after=lost_after, silence=silence) as running:
        await until(lambda: status(conn, job) == {"succeeded"})
        assert running.recorder.of(ChildDied) == []
    row = support.job(conn, job)
    assert row["finished_at"] - row["claimed_at"] >= timedelta(seconds=blocked)
    assert (row["lease"], support.events(conn, job)) == (1, [])


async def test_a_process_that_says_nothing_is_killed_which_is_a_crash(database: str, conn: Session) -> None:
    job = put(conn, "holds_the_interpreter")
    async with supervising(database, silence=2.5) as running:
        await until(lambda: status(conn, job) == {"succeeded"})
        died = running.recorder.of(ChildDied)  # on a busy machine one that starts may be silent for as long
    assert {(each.code, each.killed_for) for each in died} == {(-signal.SIGKILL, "silence")}
    row = support.job(conn, job)
    assert (row["result"], row["crashes"], row["attempts"]) == (3, 0, 0)
    (event,) = support.events(conn, job)
    assert (event["event"], event["details"]["gone_reason"]) == ("crash", "crashed")


async def test_poison_that_holds_the_interpreter_ends_dead_alone_and_its_neighbours_succeed(
    database: str, conn: Session
) -> None:
    poison = put(conn, "holds_the_interpreter_always")
    innocents = [put(conn, "innocent_later", number=number) for number in range(4)]
    async with supervising(database, quarantine=True, lost_after=3.0, silence=2.64) as running:
        await until(lambda: status(conn, poison) == {"dead"}, seconds=100)
        await until(lambda: status(conn, *innocents) == {"succeeded"})
    assert running.recorder.of(ChildDied)
    found = support.job(conn, poison)
    assert (found["crashes"], found["error"]["message"]) == (3, "crashed its process 3 times while it ran alone")


async def test_a_process_whose_interpreter_is_held_ends_itself_before_it_may_be_declared_gone(
    database: str, conn: Session
) -> None:
    job = put(conn, "holds_the_interpreter")
    async with supervising(database, lost_after=4.0) as running:
        await until(lambda: status(conn, job) == {"succeeded"})
        (died,) = running.recorder.of(ChildDied)
    assert died.killed_for is None
    (event,) = support.events(conn, job)
    gone = support.worker(conn, event["worker_id"])
    assert gone["gone_at"] - gone["seen_at"] < timedelta(seconds=5)


async def test_the_lease_of_a_thread_that_ignores_its_cancellation_is_given_up_after_its_end(
    database: str, conn: Session, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    job = put(conn, "ignores_its_cancellation", log=str(log))
    async with supervising(database, drain_timeout=0.1) as running:
        await until(lambda: status(conn, job) == {"running"} and log.exists() and log.stat().st_size)
        await running.stopped()
    (died,) = running.recorder.of(ChildDied)
    assert (died.code, died.killed_for) == (EXIT_LEFTOVERS, None)
    (event,) = support.events(conn, job)
    assert (event["event"], event["reason"]) == ("rescue", "worker_gone")
    last_sign = float(log.read_text().splitlines()[-1])
    assert last_sign < event["at"].timestamp()
    row = support.job(conn, job)
    assert (row["status"], row["settled_as"], row["attempts"], row["shared_crashes"]) == ("queued", None, 0, 0)
    assert [each["gone_reason"] for each in workers(conn)] == ["stopped"]


async def test_a_second_stop_kills(database: str, conn: Session, marker: Path) -> None:
    held = put(conn, "hold", marker=str(marker))
    async with supervising(database) as running:
        await until(lambda: status(conn, held) == {"running"})
        running.supervisor.stop()
        await running.stopped()
    (died,) = running.recorder.of(ChildDied)
    assert (died.code, died.killed_for) == (-signal.SIGKILL, "second stop")
    row = support.job(conn, held)
    assert (row["status"], row["lease"], row["shared_crashes"]) == ("queued", 2, 0)


@pytest.mark.parametrize(
    ("code", "killed_for", "reason"),
    [
        (EXIT_STOPPED, None, "stopped"),
        (EXIT_LEFTOVERS, None, "stopped"),
        (EXIT_GONE, None, "fenced"),
        (FENCED_EXIT_CODE, None, "fenced"),
        (1, None, "crashed"),
        (-signal.SIGKILL, None, "crashed"),
        (-signal.SIGKILL, "silence", "crashed"),
        (-signal.SIGKILL, "drain timeout", "stopped"),
        (-signal.SIGKILL, "second stop", "stopped"),
        (-signal.SIGKILL, "supervisor ends", "stopped"),
    ],
)
def test_the_way_a_process_ended_decides_what_its_end_costs(code: int, killed_for: str | None, reason: str) -> None:
    assert _gone_reason(code, code, killed_for) == reason


@pytest.mark.parametrize("code", [EXIT_STOPPED, EXIT_LEFTOVERS, EXIT_GONE, FENCED_EXIT_CODE])
def test_an_exit_code_that_the_process_did_not_announce_is_a_handlers(code: int) -> None:
    assert _gone_reason(code, None, None) == "crashed"


def test_a_process_that_a_handler_held_has_crashed_whoever_ended_it() -> None:
    assert _gone_reason(1, None, None) == "crashed", "the deadline in C"
    assert _gone_reason(-signal.SIGKILL, None, "silence") == "crashed"
    assert _gone_reason(STUCK_EXIT_CODE, STUCK_EXIT_CODE, None) == "crashed"
