"""The three faults that every change must pass: a process killed, a host frozen, Postgres killed."""

import signal
import time

from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import LOST_AFTER, Chaos, send, until


def test_the_jobs_of_a_killed_worker_are_others_within_a_second(chaos: Chaos, prove: Prove) -> None:
    chaos.start(processes=2, slots=10)
    chaos.submit("innocent", 60, 1.0)
    chaos.submit("paid", 8, 0.2)
    victim = chaos.busy()
    fault_at = send(signal.SIGKILL, victim.pid)
    chaos.all_ended()
    times = Times()
    assert times.follow(chaos, fault_at, victim.id) > 0
    assert max(times.detect) < 1 + 9, "claimable within 1 s, and slack for a busy machine"
    prove("worker SIGKILL", check(chaos), times)


def test_a_frozen_host_loses_its_jobs_and_comes_back_as_a_zombie_that_writes_nothing(
    chaos: Chaos, prove: Prove
) -> None:
    doomed, _ = chaos.start(2, slots=10)
    chaos.submit("innocent", 40, 1.0)
    chaos.submit("in_thread", 20, 1.0)
    chaos.submit("paid", 8, 0.3)
    victim = chaos.busy(doomed.workers)
    fault_at = send(signal.SIGSTOP, doomed.pid, victim.pid)
    until(lambda: chaos.gone_at(victim.id) and chaos.running(victim.id) == 0, "its jobs are taken back")
    held = time.time() - fault_at
    send(signal.SIGCONT, victim.pid, doomed.pid)
    chaos.all_ended()
    times = Times()
    assert times.follow(chaos, fault_at, victim.id) > 0
    assert min(times.detect) > LOST_AFTER - 0.4 - 0.3, "not before its lease had run out"
    prove("worker and supervisor SIGSTOP, SIGCONT", check(chaos, frozen={victim.id}), times, held=held)


def test_a_postgres_that_is_killed_and_comes_back_costs_no_job(chaos: Chaos, prove: Prove) -> None:
    chaos.start(processes=2, slots=10)
    chaos.submit("innocent", 100, 0.5)
    chaos.submit("paid", 20, 0.2)
    chaos.busy()
    fault_at = time.time()
    chaos.server.kill()
    chaos.server.start()
    back_at = time.time()
    chaos.all_ended()
    times = Times()
    times.recovered(chaos, fault_at, back_at)
    prove("Postgres SIGKILL and restart", check(chaos), times, held=back_at - fault_at)
