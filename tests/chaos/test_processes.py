"""Processes that are killed and frozen: workers, supervisors, handlers in processes of their own."""

import signal
import time
from uuid import UUID

import pytest

from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import Chaos, WorkerProcess, hold_for, lives, send, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


def test_a_killed_supervisor_s_workers_drain_and_another_host_goes_on(chaos: Chaos, prove: Prove) -> None:
    doomed, _ = chaos.start(2, slots=10)
    chaos.submit("innocent", 16, 6.0)  # longer than the drain
    chaos.submit("innocent", 40, 1.0)
    victim = chaos.busy(doomed.workers)
    fault_at = send(signal.SIGKILL, doomed.pid)
    doomed.process.wait()
    chaos.members.remove(doomed)
    until(lambda: chaos.gone_at(victim.id), "its worker has ended")
    chaos.all_ended()
    times = Times()
    assert times.follow(chaos, fault_at, victim.id) > 0
    assert chaos.value("SELECT gone_reason FROM holdfast.workers WHERE id = %s", victim.id) == "stopped"
    prove("supervisor SIGKILL", check(chaos), times)


def test_a_frozen_supervisor_costs_nothing_while_its_workers_live(chaos: Chaos, prove: Prove) -> None:
    frozen, _ = chaos.start(2, slots=10)
    chaos.submit("innocent", 200, 0.5)
    victim = chaos.busy(frozen.workers)
    fault_at = send(signal.SIGSTOP, frozen.pid)
    hold_for(6)
    send(signal.SIGCONT, frozen.pid)
    held = time.time() - fault_at
    chaos.all_ended()
    assert chaos.gone_at(victim.id) is None
    found = check(chaos)
    assert found.rescues == {}
    prove("supervisor SIGSTOP, SIGCONT", found, Times(), held=held)


def test_a_worker_that_dies_under_a_frozen_supervisor_is_missed_by_the_others(chaos: Chaos, prove: Prove) -> None:
    frozen, _ = chaos.start(2, slots=10)
    chaos.submit("innocent", 60, 1.0)
    victim = chaos.busy(frozen.workers)
    send(signal.SIGSTOP, frozen.pid)
    fault_at = send(signal.SIGKILL, victim.pid)
    until(lambda: chaos.gone_at(victim.id), "the others missed it")
    send(signal.SIGCONT, frozen.pid)
    chaos.all_ended()
    times = Times()
    times.follow(chaos, fault_at, victim.id)
    prove("supervisor SIGSTOP, worker SIGKILL", check(chaos), times)


def test_a_frozen_worker_s_jobs_run_elsewhere_and_it_ends_when_it_wakes(chaos: Chaos, prove: Prove) -> None:
    """Three times."""
    chaos.start(2, slots=10)
    times = Times()
    frozen: set[UUID] = set()
    held = 0.0
    for _ in range(3):
        chaos.submit("innocent", 40, 1.0)
        chaos.submit("in_thread", 20, 1.0)
        chaos.submit("isolated", 6, 0.5)
        chaos.submit("paid", 10, 0.3)
        victim = chaos.busy()
        fault_at = send(signal.SIGSTOP, victim.pid)
        frozen.add(victim.id)
        taken_back(chaos, victim)
        held = time.time() - fault_at
        send(signal.SIGCONT, victim.pid)
        ended(victim.pid)
        chaos.all_ended()
        assert times.follow(chaos, fault_at, victim.id) > 0
        until(lambda: len(chaos.workers()) == 2, "there are two workers again")
    prove("worker SIGSTOP, SIGCONT", check(chaos, frozen=frozen), times, held=held)


def taken_back(chaos: Chaos, worker: WorkerProcess) -> None:
    until(lambda: chaos.gone_at(worker.id) and chaos.running(worker.id) == 0, "its jobs are taken back")


def ended(pid: int) -> None:
    until(lambda: not lives(pid), "the process has ended")


def test_a_killed_child_of_an_isolated_job_costs_that_job_one_attempt(chaos: Chaos, prove: Prove) -> None:
    chaos.start(slots=10)
    (job_id,) = chaos.submit("isolated", 1, 2.0)
    chaos.submit("innocent", 30, 0.5)
    until(lambda: chaos.started(job_id), "it has begun")
    fault_at = send(signal.SIGKILL, _pid_of(chaos, job_id))
    chaos.all_ended()
    events = chaos.ask("SELECT event, at, details FROM holdfast.job_events WHERE job_id = %s", job_id)
    assert [event["event"] for event in events] == ["failure"]
    assert "SIGKILL" in events[0]["details"]["error"]["message"]
    prove("isolated child SIGKILL", check(chaos), _times_of(chaos, job_id, fault_at, events[0]["at"].timestamp()))


def test_a_frozen_child_of_an_isolated_job_is_killed_at_its_timeout(chaos: Chaos, prove: Prove) -> None:
    chaos.start(slots=10)
    (job_id,) = chaos.submit("isolated", 1, 1.0)
    chaos.submit("innocent", 30, 0.5)
    until(lambda: chaos.started(job_id), "it has begun")
    pid = _pid_of(chaos, job_id)
    fault_at = send(signal.SIGSTOP, pid)
    ended(pid)
    held = time.time() - fault_at
    chaos.all_ended()
    events = chaos.ask("SELECT event, at, details FROM holdfast.job_events WHERE job_id = %s", job_id)
    assert [event["event"] for event in events] == ["failure"]
    found = check(chaos)
    prove(
        "isolated child SIGSTOP (its timeout: 5 s)", found,
        _times_of(chaos, job_id, fault_at, events[0]["at"].timestamp()), held=held,
    )  # fmt: skip


def _pid_of(chaos: Chaos, job_id: UUID) -> int:
    return next(trace.pid for trace in reversed(chaos.traces()) if trace.job_id == job_id)


def _times_of(chaos: Chaos, job_id: UUID, fault_at: float, detected_at: float) -> Times:
    again = chaos.value("SELECT claimed_at FROM holdfast.jobs WHERE id = %s", job_id).timestamp()
    return Times([detected_at - fault_at], [again - fault_at])


@pytest.mark.parametrize("seconds", [20, pytest.param(60, marks=pytest.mark.full)])
def test_a_random_worker_killed_each_second_loses_nothing(chaos: Chaos, prove: Prove, seconds: int) -> None:
    chaos.start(2, processes=2, slots=5)
    chaos.submit("innocent", seconds * 8, 1.0)
    chaos.submit("in_thread", seconds * 2, 0.5)
    chaos.submit("paid", seconds, 0.3)
    times = Times()
    blows: list[tuple[float, UUID]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        victim = chaos.rng.choice(until(lambda: sorted(chaos.workers(), key=lambda each: each.id), "somebody lives"))
        blows.append((send(signal.SIGKILL, victim.pid), victim.id))
        hold_for(1.0)
    chaos.all_ended(seconds=150)
    for fault_at, worker_id in blows:
        if chaos.gone_at(worker_id) is not None:
            times.follow(chaos, fault_at, worker_id)
    prove(f"a random worker SIGKILL each second for {seconds} s", check(chaos), times, held=float(seconds))
