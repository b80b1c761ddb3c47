"""Random histories of the whole protocol on the real SQL: two sessions with overlapping open transactions.

A step calls one function. It may open a transaction and leave it open, so that the other session acts between its
call and its commit. All runs in one thread: a call that would have to wait for the other session ends by its lock or
statement timeout, and a call that ended so has done nothing. Answers can be lost: the call has happened, the caller
does not know its result, and repeats it.

The model predicts little. After each step it reads what is committed and compares it with what was committed before:
what must never happen is stated over those two pictures. Where a call ran alone, its verdict is checked as well.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.support import (
    Row,
    Session,
    advance,
    beat,
    calm,
    cancel,
    check_leases,
    claim,
    database_copy,
    enqueue_row,
    mark_gone,
    open_session,
    progress,
    register,
    release_lost_claims,
    rescue,
    restart_postgres,
    retry,
    row,
    rows,
    seconds,
    settle,
    sweep_workers,
)

QUEUES, KINDS = ("mail", "pdf"), ("small", "large")
LIMIT = 2
FINAL = {"succeeded", "dead", "cancelled"}
OUTCOMES = ("complete", "fail", "release", "snooze")

# What a call may say instead of an answer: the worker is gone, or the other session was in the way.
REFUSED = ("HF001", "55P03", "57014", "40P01")

picks = st.integers(0, 10_000)
sessions = st.integers(0, 1)
holds = st.booleans()
maybe = st.booleans()
delays = st.sampled_from([None, timedelta(0), seconds(5)])


@dataclass
class Said:
    """What callers were told, and may rely on once it is committed."""

    jobs: list[UUID] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)  # id, lease, worker_id as a claim returned them
    ends: list[tuple[UUID, int, UUID, str]] = field(default_factory=list)

    def add(self, other: "Said") -> None:
        self.jobs += other.jobs
        self.runs += other.runs
        self.ends += other.ends


@dataclass
class Picture:
    """Everything committed, at one moment."""

    jobs: dict[UUID, Row]
    workers: dict[UUID, Row]
    redrives: Counter[UUID]


class Protocol(RuleBasedStateMachine):
    def __init__(self, observer: Session, pair: tuple[Session, Session]) -> None:
        super().__init__()
        self.observer = observer
        self.pair = pair
        self.open = [False, False]
        self.pending = [Said(), Said()]
        self.told = Said()
        self.workers: list[UUID] = []
        for conn in pair:
            conn.execute("ROLLBACK")
        observer.execute("TRUNCATE holdfast.jobs, holdfast.job_events, holdfast.workers, holdfast.queues")
        observer.execute("UPDATE holdfast_test.clock SET shift = '0', started_at = NULL")
        calm(observer)
        self.before = self.picture()
        for quarantine in (False, False, True):
            self.workers.append(register(observer, queues=list(QUEUES), quarantine=quarantine))
        for kind in KINDS:
            keys: Any
            for keys in ({}, {"group_key": "g1"}, {"limit_key": "l1"}, {"limit_key": "l1"}):
                answer = enqueue_row(observer, queue=QUEUES[0], kind=kind, limit_max=LIMIT, **keys)
                self.told.jobs.append(answer["job_id"])

    def teardown(self) -> None:
        for conn in self.pair:
            conn.execute("ROLLBACK")

    # How a step acts

    def attempt(self, conn: Session, action: Callable[[], Any]) -> Any:
        """The answer, or None where the call was refused: then nothing of it may have happened."""
        try:
            return action()
        except psycopg.Error as error:
            if error.sqlstate not in REFUSED:
                raise
            return None

    def act(self, session: int, action: Callable[[Session], Any], *, hold: bool = False) -> Any:
        conn = self.pair[session]
        if hold and not self.open[session]:
            conn.execute("BEGIN")
            self.open[session] = True
        if self.open[session]:
            conn.execute("SAVEPOINT step")
        answer = self.attempt(conn, lambda: action(conn))
        if answer is None and self.open[session]:
            conn.execute("ROLLBACK TO SAVEPOINT step")
        return answer

    def some_worker(self, pick: int) -> UUID:
        """Seven times of eight one that is alive, as far as is committed."""
        alive = [
            each for each in self.workers if each in self.before.workers and not self.before.workers[each]["gone_at"]
        ]
        among = alive if alive and pick % 8 else self.workers
        return among[pick // 8 % len(among)]

    def tell(self, session: int, said: Said) -> None:
        (self.pending[session] if self.open[session] else self.told).add(said)

    def end_transaction(self, session: int, how: str) -> None:
        self.pair[session].execute(how.encode())
        if how == "COMMIT":
            self.told.add(self.pending[session])
        self.pending[session] = Said()
        self.open[session] = False

    def committed(self, job_id: UUID) -> Row:
        return row(self.observer, "SELECT * FROM holdfast.jobs WHERE id = %s", job_id)

    # Transactions, time, the brake

    @precondition(lambda self: any(self.open))
    @rule(session=sessions, how=st.sampled_from(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))
    def finish(self, session: int, how: str) -> None:
        if self.open[session]:
            self.end_transaction(session, how)

    @rule(by=st.sampled_from([1, 4, 6, 16, 26, 61, 130, 700]), beating=maybe)
    def pass_time(self, by: int, beating: bool) -> None:
        advance(self.observer, seconds(by))
        for worker_id in self.workers if beating else ():
            self.attempt(self.observer, partial(beat, self.observer, worker_id))

    @rule()
    def postgres_restarts(self) -> None:
        restart_postgres(self.observer)

    @rule()
    def sweeps_went_on(self) -> None:
        self.observer.execute("UPDATE holdfast_test.clock SET started_at = NULL")
        self.attempt(self.observer, lambda: calm(self.observer))

    @rule(queue=st.sampled_from(QUEUES), paused=maybe)
    def pause(self, queue: str, paused: bool) -> None:
        query = b"UPDATE holdfast.queues SET paused = %s WHERE name = %s"
        self.attempt(self.observer, lambda: self.observer.execute(query, (paused, queue)))

    # Producers

    @rule(
        session=sessions,
        hold=holds,
        queue=st.sampled_from(QUEUES),
        kind=st.sampled_from(KINDS),
        keys=st.fixed_dictionaries(
            {},
            optional={
                "unique_key": st.sampled_from(["u1", "u2"]),
                "group_key": st.sampled_from(["g1", "g2"]),
                "limit_key": st.sampled_from(["l1", "l2"]),
                "delay": st.sampled_from([5, 60]),
                "priority": st.sampled_from([-1, 1]),
                "max_attempts": st.sampled_from([1, 2]),
                "timeout": st.sampled_from([30, None]),
                "silent_after": st.just(20),
                "rescue": st.just("dead"),
            },
        ),
        answer_lost=maybe,
    )
    def enqueue(self, session: int, hold: bool, queue: str, kind: str, keys: Row, answer_lost: bool) -> None:
        job_id = uuid4()

        def write(conn: Session) -> Row:
            return enqueue_row(conn, id=job_id, queue=queue, kind=kind, limit_max=LIMIT, **keys)

        answer = self.act(session, write, hold=hold)
        if answer_lost and answer is not None:
            repeated = self.act(session, write)
            assert repeated in (answer, None), "a repeated enqueue gave another answer"
            answer = repeated
        if answer is not None:
            assert answer["created"] == (answer["job_id"] == job_id)
            self.tell(session, Said(jobs=[answer["job_id"]]))

    @precondition(lambda self: self.told.jobs)
    @rule(session=sessions, hold=holds, pick=picks)
    def cancel(self, session: int, hold: bool, pick: int) -> None:
        job_id = self.told.jobs[pick % len(self.told.jobs)]
        answer = self.act(session, lambda conn: cancel(conn, job_id), hold=hold)
        assert answer is None or answer[job_id] != "not_found"

    @precondition(lambda self: self.told.jobs)
    @rule(session=sessions, hold=holds, pick=picks)
    def retry(self, session: int, hold: bool, pick: int) -> None:
        job_id = self.told.jobs[pick % len(self.told.jobs)]
        answer = self.act(session, lambda conn: retry(conn, job_id), hold=hold)
        assert answer is None or answer[job_id] != "not_found"

    # Workers

    @precondition(lambda self: len(self.workers) < 6)
    @rule(quarantine=maybe, lost_after=st.sampled_from([25, 60]))
    def register(self, quarantine: bool, lost_after: int) -> None:
        opts: Any = {"queues": list(QUEUES), "quarantine": quarantine, "lost_after": lost_after}
        worker_id = self.attempt(self.observer, lambda: register(self.observer, **opts))
        if worker_id is not None:
            self.workers.append(worker_id)

    @rule(session=sessions, hold=holds, pick=picks, count=st.integers(1, 4), answer_lost=maybe)
    def claim(self, session: int, hold: bool, pick: int, count: int, answer_lost: bool) -> None:
        worker_id = self.some_worker(pick)
        claimed = self.act(session, lambda conn: claim(conn, worker_id, count, queues=QUEUES, kinds=KINDS), hold=hold)
        if claimed is None:
            return
        assert len(claimed) <= count
        assert len({run["id"] for run in claimed}) == len(claimed)
        if not answer_lost:
            runs = [{"id": run["id"], "lease": run["lease"], "worker_id": worker_id} for run in claimed]
            self.tell(session, Said(runs=runs))

    @precondition(lambda self: self.told.runs)
    @rule(
        session=sessions,
        hold=holds,
        pick=picks,
        outcome=st.sampled_from(OUTCOMES),
        delay=delays,
        answer_lost=maybe,
    )
    def settle(
        self, session: int, hold: bool, pick: int, outcome: str, delay: timedelta | None, answer_lost: bool
    ) -> None:
        run = self.told.runs[-1 - pick % len(self.told.runs)]

        def end(conn: Session) -> str:
            return settle(conn, run["worker_id"], run, outcome, delay=delay)

        before = self.committed(run["id"])
        answer = self.act(session, end, hold=hold)
        if answer is None:
            return
        this_end = (run["id"], run["lease"], run["worker_id"], outcome)
        if not self.open[session]:
            self.judge_settle(answer, run, this_end, before)
        if answer == "applied":
            self.tell(session, Said(ends=[this_end]))
        if answer_lost:
            again = self.act(session, end)
            assert again in ({"applied": "already"}.get(answer, answer), None), "a repetition was not known"

    def judge_settle(self, answer: str, run: Row, this_end: tuple[UUID, int, UUID, str], before: Row) -> None:
        after = self.committed(run["id"])
        if holds_lease(run, before):
            assert answer == "applied"
            assert after["status"] != "running"
            return
        assert after == before, "a write under a lost lease changed the row"
        assert answer in ("lost", "already")
        if answer == "already":
            assert this_end in self.told.ends, "'already' for what was never applied"
        elif this_end in self.told.ends:
            assert this_end[3] == "release", "an applied end was forgotten"

    @precondition(lambda self: self.told.runs)
    @rule(session=sessions, hold=holds, pick=picks, report=st.sampled_from([None, 1]))
    def progress(self, session: int, hold: bool, pick: int, report: int | None) -> None:
        run = self.told.runs[-1 - pick % len(self.told.runs)]
        before = self.committed(run["id"])
        answer = self.act(session, lambda conn: progress(conn, run["worker_id"], run, report=report), hold=hold)
        if answer is None or self.open[session]:
            return
        if holds_lease(run, before):
            assert answer in (["applied"], ["locked"])
        else:
            assert answer == ["lost"]
            assert self.committed(run["id"]) == before, "a heartbeat under a lost lease changed the row"

    @precondition(lambda self: self.told.runs)
    @rule(session=sessions, pick=picks, other=picks, what=st.sampled_from([*OUTCOMES, "progress", "release_lost"]))
    def write_as_somebody_else(self, session: int, pick: int, other: int, what: str) -> None:
        """A real lease in the wrong hands."""
        run = self.told.runs[pick % len(self.told.runs)]
        stranger = self.workers[other % len(self.workers)]
        if self.open[session] or stranger == run["worker_id"]:
            return
        before = self.committed(run["id"])
        if holds_lease({**run, "worker_id": stranger}, before):
            return  # the claim's own transaction was rolled back, and its lease number given out again
        conn = self.pair[session]
        if what == "progress":
            answer = self.attempt(conn, lambda: progress(conn, stranger, run))
            assert answer in (["lost"], None)
        elif what == "release_lost":
            assert not self.attempt(conn, lambda: release_lost_claims(conn, stranger, run))
        else:
            answer = self.attempt(conn, lambda: settle(conn, stranger, run, what, delay=timedelta(0)))
            if answer == "already":
                assert (run["id"], run["lease"], stranger, what) in self.told.ends
            else:
                assert answer in ("lost", None)
        assert self.committed(run["id"]) == before

    @rule(session=sessions, hold=holds, pick=picks)
    def check_and_release(self, session: int, hold: bool, pick: int) -> None:
        """A worker asks what it holds, and gives back what it does not know of."""
        worker_id = self.some_worker(pick)
        known = {run["id"]: run for run in self.told.runs if run["worker_id"] == worker_id}
        if any(run["worker_id"] == worker_id for said in self.pending for run in said.runs):
            return
        verdicts = self.act(session, lambda conn: check_leases(conn, worker_id, *known.values()), hold=hold)
        if verdicts is None:
            return
        unknown = [
            self.before.jobs[job_id]
            for job_id, verdict in verdicts.items()
            if verdict == "unknown" and job_id in self.before.jobs
        ]
        self.act(session, lambda conn: release_lost_claims(conn, worker_id, *unknown), hold=hold)

    # Monitors

    @rule(session=sessions, hold=holds, pick=picks, reason=st.sampled_from(["crashed", "stopped", "fenced"]))
    def see_death(self, session: int, hold: bool, pick: int, reason: str) -> None:
        worker_id = self.some_worker(pick)
        answer = self.act(session, lambda conn: mark_gone(conn, worker_id, reason=reason), hold=hold)
        assert answer is None or answer[worker_id] in ("gone", "already")

    @rule(session=sessions, hold=holds)
    def sweep(self, session: int, hold: bool) -> None:
        self.act(session, sweep_workers, hold=hold)

    @rule(session=sessions, hold=holds, max_jobs=st.sampled_from([1, 100]))
    def rescue(self, session: int, hold: bool, max_jobs: int) -> None:
        rescued = self.act(session, lambda conn: rescue(conn, max_jobs=max_jobs), hold=hold)
        if rescued is None or self.open[session]:
            return
        gone = {worker_id for worker_id, each in self.picture().workers.items() if each["gone_at"]}
        for each in rescued:
            assert (each["reason"] == "worker_gone") == (each["worker_id"] in gone)

    @precondition(lambda self: not any(self.open))
    @rule(
        pick=picks,
        intruder=st.sampled_from(["death", "claim", "rescue", "sweep", "cancel"]),
        how=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]),
    )
    def claim_and_be_disturbed(self, pick: int, intruder: str, how: str) -> None:
        """What the other rules seldom bring about: somebody acts just between a claim and its commit."""
        self.claim(session=0, hold=True, pick=pick, count=2, answer_lost=False)
        if intruder == "death":
            self.see_death(session=1, hold=False, pick=pick, reason="crashed")
        elif intruder == "claim":
            self.claim(session=1, hold=False, pick=pick + 8, count=4, answer_lost=False)
        elif intruder == "rescue":
            self.rescue(session=1, hold=False, max_jobs=100)
        elif intruder == "sweep":
            self.sweep(session=1, hold=False)
        elif self.told.jobs:
            self.cancel(session=1, hold=False, pick=pick)
        self.nothing_forbidden_has_happened()
        self.end_transaction(0, how)

    @rule(
        session=sessions,
        pick=picks,
        other=picks,
        what=st.sampled_from([*OUTCOMES, "progress", "release_lost"]),
        outcome=st.sampled_from(OUTCOMES),
        delay=delays,
        answer_lost=maybe,
    )
    def run_to_an_end(
        self,
        session: int,
        pick: int,
        other: int,
        what: str,
        outcome: str,
        delay: timedelta | None,
        answer_lost: bool,
    ) -> None:
        """A whole run in one step: with single rules alone few histories get that far."""
        self.claim(session=session, hold=False, pick=pick, count=2, answer_lost=False)
        if self.told.runs:
            last = len(self.told.runs) - 1
            self.write_as_somebody_else(session=session, pick=last, other=other, what=what)
            self.settle(session=session, hold=False, pick=0, outcome=outcome, delay=delay, answer_lost=answer_lost)

    @rule(
        session=sessions,
        pick=picks,
        how=st.sampled_from(["death", "claim_lost", "requeue"]),
        outcome=st.sampled_from(OUTCOMES),
    )
    def come_back_too_late(self, session: int, pick: int, how: str, outcome: str) -> None:
        """A run is taken back and its job given away again before its own end arrives."""
        self.claim(session=session, hold=False, pick=pick, count=1, answer_lost=False)
        if not self.told.runs:
            return
        place = len(self.told.runs) - 1
        run = self.told.runs[place]
        if how == "death":
            self.act(session, lambda conn: mark_gone(conn, run["worker_id"]))
            self.rescue(session=session, hold=False, max_jobs=100)
        elif how == "claim_lost":
            self.act(session, lambda conn: release_lost_claims(conn, run["worker_id"], run))
        else:
            self.settle(session=session, hold=False, pick=0, outcome=outcome, delay=timedelta(0), answer_lost=False)
        self.claim(session=session, hold=False, pick=pick, count=4, answer_lost=False)
        self.settle(
            session=session,
            hold=False,
            pick=len(self.told.runs) - 1 - place,
            outcome=outcome,
            delay=timedelta(0),
            answer_lost=False,
        )

    # What must hold after each step

    def picture(self) -> Picture:
        return Picture(
            jobs={each["id"]: each for each in rows(self.observer, "SELECT * FROM holdfast.jobs")},
            workers={each["id"]: each for each in rows(self.observer, "SELECT * FROM holdfast.workers")},
            redrives=Counter(
                each["job_id"]
                for each in rows(self.observer, "SELECT job_id FROM holdfast.job_events WHERE event = 'redrive'")
            ),
        )

    @invariant()
    def nothing_forbidden_has_happened(self) -> None:
        before, after = self.before, self.picture()
        self.before = after
        assert set(self.told.jobs) <= set(after.jobs), "a committed job vanished"
        assert set(before.jobs) <= set(after.jobs), "a committed job vanished"
        for job_id, job in after.jobs.items():
            assert_sound(job)
            if job["status"] == "running" and not is_same_run(before.jobs.get(job_id), job):
                owner = before.workers.get(job["worker_id"])
                assert owner is None or owner["gone_at"] is None, "a run of a worker that was gone already"
            if job_id in before.jobs:
                assert_step(before.jobs[job_id], job, redriven=after.redrives[job_id] > before.redrives[job_id])
        assert_exclusive([job for job in after.jobs.values() if job["status"] == "running"], after.workers)
        for worker_id, worker in before.workers.items():
            now = after.workers[worker_id]
            assert now["seen_at"] >= worker["seen_at"]
            if worker["gone_at"] is not None:
                assert now == worker, "gone is final"


def holds_lease(run: Row, job: Row) -> bool:
    return job["status"] == "running" and all(job[key] == run[key] for key in ("lease", "worker_id"))


def is_same_run(old: Row | None, new: Row) -> bool:
    return old is not None and old["status"] == "running" and old["lease"] == new["lease"]


def assert_sound(job: Row) -> None:
    """One row by itself."""
    assert job["status"] in {"queued", "running"} | FINAL
    assert (job["finished_at"] is not None) == (job["status"] in FINAL)
    assert job["attempts"] <= job["max_attempts"]
    assert job["crashes"] <= job["max_crashes"]
    assert job["rescues"] <= 20
    if job["status"] == "running":
        assert job["lease"] >= 1
        for column in ("worker_id", "claimed_at", "heartbeat_at"):
            assert job[column] is not None, column
        assert (job["deadline_at"] is None) == (job["timeout"] is None)
    if job["status"] == "queued":
        assert job["attempts"] < job["max_attempts"]
        assert job["cancel_requested_at"] is None, "a wanted cancel was forgotten"


def assert_step(old: Row, new: Row, *, redriven: bool) -> None:
    """One row from one picture to the next."""
    assert new["lease"] >= old["lease"], "a lease fell"
    if old["status"] in FINAL and not redriven:
        kept = {"id", "status", "lease", "worker_id", "result", "error", "finished_at", "settled_as", "attempts"}
        assert {key: new[key] for key in kept} == {key: old[key] for key in kept}, "an ended job changed"
    if redriven:
        assert new["lease"] > old["lease"], "a retry kept the old lease"
    if new["lease"] == old["lease"]:
        assert new["status"] == old["status"] or new["status"] != "running", "a run began without a new lease"
        assert new["worker_id"] == old["worker_id"], "a run changed hands without a new lease"
    if old["status"] == "running" and new["status"] == "running" and new["lease"] == old["lease"]:
        assert new["claimed_at"] == old["claimed_at"]
        assert new["heartbeat_at"] >= old["heartbeat_at"]


def assert_exclusive(running: list[Row], workers: dict[UUID, Row]) -> None:
    """All running rows beside each other."""
    groups = Counter((job["queue"], job["group_key"]) for job in running if job["group_key"])
    assert all(count == 1 for count in groups.values()), f"two of one group run: {groups}"
    limits = Counter(job["limit_key"] for job in running if job["limit_key"])
    assert all(count <= LIMIT for count in limits.values()), f"a limit is exceeded: {limits}"
    alone = Counter(job["worker_id"] for job in running if job["suspect"])
    assert all(count == 1 for count in alone.values()), f"suspects share a worker: {alone}"
    for job in running:
        worker = workers[job["worker_id"]]
        assert job["suspect"] == worker["quarantine"]
        if worker["gone_at"] is not None:
            assert job["claimed_at"] <= worker["gone_at"], "a gone worker claimed"


@pytest.fixture(scope="module")
def trio(bare: str, template: str) -> Iterator[tuple[Session, Session, Session]]:
    """One session that only looks (and moves time), and the two that meet each other."""
    with (
        database_copy(bare, template) as dsn,
        open_session(dsn) as observer,
        open_session(dsn) as one,
        open_session(dsn) as two,
    ):
        for conn in (observer, one, two):
            conn.execute("SET lock_timeout = '20ms'")
        for conn in (one, two):  # not who only looks: a busy machine would be taken for a broken promise
            conn.execute("SET statement_timeout = '250ms'")
        yield observer, one, two


def run_histories(trio: tuple[Session, Session, Session], *, examples: int, steps: int) -> None:
    observer, one, two = trio
    machine: Any = partial(Protocol, observer, (one, two))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            database=None,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(400)
def test_no_history_breaks_a_promise(trio: tuple[Session, Session, Session]) -> None:
    run_histories(trio, examples=40, steps=50)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_no_long_history_breaks_a_promise(trio: tuple[Session, Session, Session]) -> None:
    run_histories(trio, examples=600, steps=120)
