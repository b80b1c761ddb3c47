"""Handlers that take their process along, or that do not let go of it."""

import signal
import time
from uuid import UUID

import pytest

from tests.chaos.checker import SLACK, Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import STALE_AFTER, Chaos, lives, send, until

#: Silence is not judged before Postgres has been up, and somebody has swept, for 25 s.
CALM = (
    "SELECT bool_and(holdfast.clock() - greatest(resumed_at, holdfast.postgres_started_at()) > interval '25 s')"
    " FROM holdfast.monitors WHERE name = 'mark_workers_gone'"
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.mark.parametrize("kind", ["segfaults", "kills_itself"])
def test_poison_beside_99_innocents_ends_dead_and_alone(chaos: Chaos, prove: Prove, kind: str) -> None:
    chaos.start(processes=2, slots=10)
    chaos.submit("innocent", 60, 0.5)
    (poison,) = chaos.submit(kind, 1)
    chaos.submit("innocent", 29, 0.5)
    chaos.submit("paid", 10, 0.1)
    chaos.all_ended(seconds=150)
    job = chaos.ask("SELECT status, crashes, error FROM holdfast.jobs WHERE id = %s", poison)[0]
    assert (job["status"], job["crashes"]) == ("dead", 3)
    assert "while it ran alone" in job["error"]["message"]
    prove(f"handler {kind} beside 99 innocents", check(chaos), _crash_times(chaos, poison))


def _crash_times(chaos: Chaos, poison: UUID) -> Times:
    """From the last trace of each run to the crash that the ledger knows, and to the next run's claim."""
    times = Times()
    starts = {trace.lease: trace.at + 0.1 for trace in chaos.traces() if trace.job_id == poison}
    for event in chaos.ask("SELECT lease, at FROM holdfast.job_events WHERE job_id = %s AND event = 'crash'", poison):
        died = starts[event["lease"]]
        times.detect.append(event["at"].timestamp() - died)
        again = chaos.value(
            "SELECT min(at) FROM chaos.history WHERE job_id = %s AND lease > %s AND status = 'running'",
            poison, event["lease"],
        )  # fmt: skip
        if again is not None:
            times.resume.append(again.timestamp() - died)
    return times


def test_a_handler_that_blocks_the_loop_for_long_is_taken_back_and_fenced(chaos: Chaos, prove: Prove) -> None:
    chaos.start(2, slots=10)
    until(lambda: chaos.value(CALM), "the brake lets go")
    (job_id,) = chaos.submit("blocks_the_loop", 1, STALE_AFTER + 5)
    until(lambda: chaos.started(job_id), "it has begun")
    fault_at = time.time()
    chaos.submit("innocent", 60, 0.5)
    chaos.all_ended()
    until(lambda: any(t.job_id == job_id and t.lease == 1 and t.what == "end" for t in chaos.traces()), "it let go")
    until(
        lambda: chaos.value("SELECT count(*) FROM holdfast.workers WHERE gone_at IS NULL AND NOT quarantine") == 2,
        "both hosts work",
    )
    found = check(chaos)
    assert set(found.rescues) <= {"no_heartbeat", "worker_gone"}
    times = Times()
    for row in chaos.ask(
        "SELECT e.at, j.claimed_at FROM holdfast.job_events e JOIN holdfast.jobs j ON j.id = e.job_id"
        " WHERE e.event = 'rescue' ORDER BY e.id"
    ):
        times.detect.append(row["at"].timestamp() - fault_at)
        times.resume.append(row["claimed_at"].timestamp() - fault_at)
    assert times.detect, "the blocked job was taken back"
    prove("handler blocks the event loop", found, times, held=STALE_AFTER + 5)


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "busy"])
def test_a_handler_that_holds_the_interpreter_s_lock_ends_with_its_process(
    chaos: Chaos, prove: Prove, idle: bool
) -> None:
    """The process ends before anybody may take its jobs, also where it had nothing to do until then."""
    chaos.start(2, slots=10)
    if not idle:
        chaos.submit("innocent", 40, 1.0)
        chaos.busy()
    (job_id,) = chaos.submit("holds_the_lock", 1, 12)
    until(lambda: chaos.started(job_id), "it has begun")
    fault_at, pid = next((trace.at, trace.pid) for trace in chaos.traces() if trace.job_id == job_id)
    chaos.submit("innocent", 60, 0.5)
    until(lambda: not lives(pid), "the process has ended")
    ended_at = time.time()
    chaos.all_ended()
    assert not any(t.job_id == job_id and t.lease == 1 and t.what == "end" for t in chaos.traces())
    (holder,) = chaos.ask("SELECT id, gone_at FROM holdfast.workers WHERE pid = %s AND gone_at IS NOT NULL", pid)
    found, times = check(chaos), Times()
    if ended_at > holder["gone_at"].timestamp() + SLACK:
        late = ended_at - holder["gone_at"].timestamp()
        found.problems.append(f"the process ended {late:.2f} s after its worker was declared gone")
    assert times.follow(chaos, fault_at, holder["id"]) > 0
    prove(f"handler holds the interpreter's lock, worker {'idle' if idle else 'busy'} before", found, times)


def test_a_thread_that_ignores_its_cancel_ends_with_the_draining_process(chaos: Chaos, prove: Prove) -> None:
    """Its lease is not given up before the process has ended."""
    member = chaos.start(slots=10)[0]
    (job_id,) = chaos.submit("ignores_its_cancel", 1, 30.0)
    until(lambda: chaos.started(job_id), "it has begun")
    chaos.start(slots=10)
    chaos.submit("innocent", 30, 0.5)
    (victim,) = member.workers()
    fault_at = send(signal.SIGTERM, member.pid)
    chaos.all_ended()
    member.process.wait(20)
    chaos.members.remove(member)
    times = Times()
    times.follow(chaos, fault_at, victim.id)
    prove("a thread ignores its cancel, SIGTERM", check(chaos), times)
