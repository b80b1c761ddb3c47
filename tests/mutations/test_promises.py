"""Rules that only a deliberately broken copy showed to be without a test of their own (see mutations.py)."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast import Context, Holdfast, RetryPolicy
from holdfast.events import Sinks
from holdfast.services import beat, pulse
from tests import support
from tests.postgres.test_protocol import in_thread, wait_until_blocked
from tests.services.helpers import app_on, until, working
from tests.support import (
    Row,
    Session,
    advance,
    calm,
    claim_one,
    enqueue,
    events,
    job,
    mark_gone,
    progress,
    register,
    release_lost_claims,
    rescue,
    rows,
    seconds,
    settle,
)

Connect = Callable[[], Session]


def rescue_run(conn: Session, run: Row, reason: str) -> list[Row]:
    """What a rescue does that was decided about this very run."""
    query = "SELECT * FROM holdfast.rescue_jobs(%s::uuid[], %s::bigint[], %s::text[])"
    return rows(conn, query, [run["id"]], [run["lease"]], [reason])


# P2: one holder


@pytest.mark.parametrize("outcome", ["complete", "fail", "release", "snooze"])
def test_a_late_end_of_a_worker_s_own_earlier_lease_is_lost(conn: Session, outcome: str) -> None:
    """The zombie and the heir have one id: a claim that came back to the worker that had lost it."""
    enqueue(conn)
    me = register(conn)
    old = claim_one(conn, me)
    release_lost_claims(conn, me, old)
    new = claim_one(conn, me)
    before = job(conn, new["id"])
    assert settle(conn, me, old, outcome, delay=seconds(0)) == "lost"
    assert job(conn, new["id"]) == before
    assert settle(conn, me, new) == "applied"


# P4: no false rescue


def test_a_rescue_that_was_decided_about_an_older_lease_changes_nothing(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    old = claim_one(conn, me)
    settle(conn, me, old, "release")
    new = claim_one(conn, me)
    running = job(conn, job_id)
    assert rescue_run(conn, old, "no_heartbeat") == []
    assert job(conn, job_id) == running
    settle(conn, me, new)
    ended = job(conn, job_id)
    assert rescue_run(conn, new, "no_heartbeat") == []
    assert job(conn, job_id) == ended
    assert events(conn, job_id) == []


def stop_where_stale_jobs_reads_the_clock(conn: Session) -> None:
    """A sweep stands still between the snapshot in which it looks and the lock that it takes.

    It waits there for an advisory lock; everybody else's clock goes on.
    """
    conn.execute("""
        CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz
        LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            _stack text;
        BEGIN
            GET DIAGNOSTICS _stack = PG_CONTEXT;
            IF _stack LIKE '%function holdfast.stale_jobs(%' THEN
                PERFORM pg_advisory_xact_lock_shared(1);
            END IF;
            RETURN clock_timestamp() + (SELECT shift FROM holdfast_test.clock);
        END $$""")


def disturbed_sweep(connect: Connect, disturb: Callable[[Session, UUID, Row], Any]) -> tuple[list[Row], Row, Row]:
    """A sweep that finds a silent run, and something that happens before it can lock the row.

    Returns what it rescued, and the row before and after its last step.
    """
    mine, other = connect(), connect()
    job_id = enqueue(mine, silent_after=30)
    me = register(mine)
    run = claim_one(mine, me)
    advance(mine, seconds(31))
    calm(mine)
    stop_where_stale_jobs_reads_the_clock(mine)
    other.execute("SELECT pg_advisory_lock(1)")
    sweeping = in_thread(mine, lambda: rescue(mine))
    try:
        wait_until_blocked(other, mine)
        disturb(other, me, run)
        before = job(other, job_id)
    finally:
        other.execute("SELECT pg_advisory_unlock(1)")
        rescued = sweeping()
    return rescued, before, job(other, job_id)


def test_a_heartbeat_between_a_sweep_s_look_and_its_lock_saves_the_run(connect: Connect) -> None:
    rescued, before, after = disturbed_sweep(connect, progress)
    assert rescued == []
    assert after == before


def test_a_run_that_began_between_a_sweep_s_look_and_its_lock_is_not_taken_for_the_one_before(
    connect: Connect,
) -> None:
    def change_hands(conn: Session, me: UUID, run: Row) -> None:
        settle(conn, me, run, "release")
        claim_one(conn, register(conn))

    rescued, before, after = disturbed_sweep(connect, change_hands)
    assert rescued == []
    assert (after["status"], after["lease"]) == ("running", 2)
    assert after == before


def test_an_undisturbed_sweep_takes_the_silent_run(connect: Connect) -> None:
    """Without this the two tests above could pass because that sweep never takes anything."""
    rescued, _, after = disturbed_sweep(connect, lambda conn, me, run: None)
    assert [each["reason"] for each in rescued] == ["no_heartbeat"]
    assert after["status"] == "queued"


@pytest.fixture
def app(database: str) -> Holdfast:
    return app_on(database)


async def test_no_time_in_the_ledger_comes_from_a_worker_s_own_clock(
    app: Holdfast, database: str, conn: Session
) -> None:
    """The ledger's clock stands a day behind that of this process: a time of ours would stand out."""
    go_on = asyncio.Event()

    @app.job(retry=RetryPolicy(base=0.01, jitter=0), timeout=60)
    async def eventful(ctx: Context) -> None:
        await ctx.progress("begun")
        if ctx.attempt == 1:
            raise RuntimeError("once")
        await go_on.wait()

    advance(conn, -timedelta(days=1))
    begin = support.clock(conn)

    def assert_ledger_time(row: Row) -> None:
        latest = support.clock(conn) + seconds(60 + 30)
        strange = {name: at for name, at in row.items() if isinstance(at, datetime) and not begin <= at <= latest}
        assert not strange

    async with app, working(database, app) as running:
        handle = await eventful.enqueue()
        try:
            await until(lambda: support.worker(conn, running.id)["running"] and job(conn, handle.id)["attempts"])
            await until(lambda: job(conn, handle.id)["status"] == "running")
            assert_ledger_time(support.worker(conn, running.id))
            assert_ledger_time(job(conn, handle.id))
        finally:
            go_on.set()
        await until(lambda: job(conn, handle.id)["status"] == "succeeded")
        assert_ledger_time(job(conn, handle.id))
        for event in events(conn, handle.id):
            assert_ledger_time(event)
    assert_ledger_time(support.worker(conn, running.id))
    assert begin < datetime.now(UTC) - timedelta(hours=23)


def test_trust_is_counted_on_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def read(clock: int) -> float:
        asked.append(clock)
        return 0.0

    monkeypatch.setattr(time, "clock_gettime", read)
    pulse.steady_now()
    assert asked == [getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)]


class SlowLedger:
    """Each answer takes three seconds of a clock that the test owns."""

    def __init__(self) -> None:
        self.now = 100.0

    def one(self, call: Any) -> bool:
        self.now += 3
        return True

    def call(self, call: Any) -> list[Any]:
        self.now += 3
        return []


def test_trust_is_counted_from_when_a_beat_was_sent_however_late_its_answer_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger: Any = SlowLedger()
    monkeypatch.setattr(beat, "steady_now", lambda: ledger.now)
    counted = pulse.Pulse()
    beating = beat.Beat(
        ledger,
        uuid4(),
        counted,
        interval=5,
        unknown_after=15,
        status=dict,
        held=list,
        verdicts=lambda found: None,
        gone=lambda: None,
        accepted=lambda: None,
        sinks=Sinks([]),
    )
    assert beating.step()
    assert counted.accepted_at == 100


# P3: quick rescue


@pytest.mark.parametrize("reason", ["crashed", "stopped"])
def test_a_job_is_taken_from_a_worker_that_was_declared_gone_long_ago(conn: Session, reason: str) -> None:
    """Whoever declared it died before the rescue, and nobody swept for an hour."""
    job_id = enqueue(conn, timeout=None)
    me = register(conn)
    claim_one(conn, me)
    mark_gone(conn, me, reason=reason)
    advance(conn, timedelta(hours=1))
    assert [(each["id"], each["reason"]) for each in rescue(conn)] == [(job_id, "worker_gone")]


# P2, in one process


async def test_a_job_whose_older_run_has_not_ended_in_this_process_is_not_begun_beside_it(
    app: Holdfast, database: str, conn: Session
) -> None:
    released = asyncio.Event()
    leases: list[int] = []

    @app.job()
    async def stubborn(ctx: Context) -> None:
        leases.append(ctx.lease)
        try:
            await released.wait()
        except asyncio.CancelledError:
            await released.wait()

    async with app, working(database, app) as running:
        handle = await stubborn.enqueue()
        try:
            await until(lambda: leases)
            release_lost_claims(conn, running.id, job(conn, handle.id))
            await until(lambda: job(conn, handle.id)["settled_as"] == "snooze" or len(leases) > 1)
            assert leases == [1]
        finally:
            released.set()
        advance(conn, seconds(10))
        await until(lambda: job(conn, handle.id)["status"] == "succeeded")
    assert leases == [1, job(conn, handle.id)["lease"]]
