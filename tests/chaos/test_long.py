"""Faults that last, at the timings of a user who sets nothing; and a worker that lives in another hour."""

import os
import signal
import time

import pytest

from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import Chaos, hold_for, send

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

#: Loaded by Python itself at its start: everything that asks Python for the time of day gets one an hour off.
ANOTHER_HOUR = """
import datetime, time

class datetime_(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds={shift})

real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {shift}
time.time_ns = lambda: real_ns() + {shift} * 10**9
datetime.datetime = datetime_
"""


@pytest.fixture
def load(chaos: Chaos) -> Chaos:
    """Two hosts with the default timings, in the middle of work for about a minute."""
    chaos.use_default_timings()
    chaos.start(2, slots=10)
    chaos.submit("innocent", 600, 2.0)
    chaos.submit("in_thread", 60, 1.0)
    chaos.submit("paid", 60, 0.5)
    chaos.busy()
    return chaos


def judge(chaos: Chaos, prove: Prove, fault: str, fault_at: float, over_at: float) -> None:
    chaos.all_ended(seconds=250)
    times = Times()
    times.recovered(chaos, fault_at, over_at)
    prove(f"{fault} (default timings)", check(chaos), times, held=over_at - fault_at)


@pytest.mark.full
def test_postgres_is_frozen_for_a_minute(load: Chaos, prove: Prove) -> None:
    fault_at = send(signal.SIGSTOP, *load.server._processes())
    hold_for(60)
    send(signal.SIGCONT, *load.server._processes())
    judge(load, prove, "Postgres SIGSTOP for 60 s", fault_at, time.time())


@pytest.mark.full
def test_somebody_locks_the_table_of_jobs_for_longer_than_leases_last(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    with load.session("chaos lock") as conn, conn.transaction():
        conn.execute("LOCK TABLE holdfast.jobs IN ACCESS EXCLUSIVE MODE")
        hold_for(30)
    judge(load, prove, "the table of jobs is locked for 30 s", fault_at, time.time())


@pytest.mark.full
def test_a_snapshot_is_held_open_for_two_minutes_under_load(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    with load.session("chaos snapshot") as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT count(*) FROM holdfast.jobs")
        load.submit("innocent", 1500, 1.0)
        hold_for(60)
        victim = load.busy()
        killed_at = send(signal.SIGKILL, victim.pid)
        hold_for(60)
    load.all_ended(seconds=250)
    times = Times()
    times.follow(load, killed_at, victim.id)
    prove(
        "a snapshot is held for 120 s, worker SIGKILL (default timings)",
        check(load),
        times,
        held=time.time() - fault_at,
    )


@pytest.mark.full
def test_a_frozen_host_is_given_up_after_the_default_time(load: Chaos, prove: Prove) -> None:
    member = load.members[0]
    (victim,) = member.workers()
    fault_at = send(signal.SIGSTOP, member.pid, victim.pid)
    load.all_ended(seconds=250)
    send(signal.SIGCONT, member.pid, victim.pid)
    times = Times()
    times.follow(load, fault_at, victim.id)
    assert max(times.detect) < 35 + 10, "P3: within 35 s, and slack for a busy machine"
    prove("worker and supervisor SIGSTOP (default timings)", check(load, frozen={victim.id}), times)


@pytest.mark.parametrize("shift", [3600, -3600])
def test_a_worker_whose_clock_is_an_hour_off_is_like_the_others(chaos: Chaos, prove: Prove, shift: int) -> None:
    (chaos.folder / "off").mkdir()
    (chaos.folder / "off" / "sitecustomize.py").write_text(ANOTHER_HOUR.format(shift=shift))
    paths = os.pathsep.join(filter(None, (str(chaos.folder / "off"), os.environ.get("PYTHONPATH"))))
    (off,) = chaos.start(environment={"PYTHONPATH": paths})
    chaos.start()
    chaos.submit("innocent", 100, 0.5)
    chaos.submit("in_thread", 20, 0.3)
    chaos.submit("paid", 20, 0.2)
    victim = chaos.busy(off.workers)
    fault_at = send(signal.SIGKILL, victim.pid)
    chaos.all_ended(seconds=100)
    assert any(abs(at - fault_at) > 3000 for at, _ in off.log_lines()), "its clock really is off"
    times = Times()
    times.follow(chaos, fault_at, victim.id)
    prove(f"worker's clock {shift:+} s, worker SIGKILL", check(chaos), times)


def test_a_handler_without_memory_costs_attempts_of_its_own_only(chaos: Chaos, prove: Prove) -> None:
    """Isolated, and limited by the kernel: what it asks for is refused."""
    chaos.start(processes=2, slots=10)
    chaos.submit("innocent", 60, 0.5)
    (eater,) = chaos.submit("eats_memory", 1)
    chaos.submit("innocent", 39, 0.5)
    chaos.all_ended(seconds=150)
    job = chaos.ask("SELECT status, attempts, error FROM holdfast.jobs WHERE id = %s", eater)[0]
    assert (job["status"], job["attempts"], job["error"]["type"]) == ("dead", 5, "MemoryError")
    prove("handler out of memory beside 99 innocents", check(chaos), Times())
