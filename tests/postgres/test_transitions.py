"""The table of transitions in core and the SQL functions say the same: every status is put through every event."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from holdfast.core.job import FINAL, TRANSITIONS, Event, Status
from holdfast.postgres.embedded import EmbeddedPostgres
from tests.support import (
    Row,
    Session,
    calm,
    cancel,
    claim,
    database_copy,
    enqueue,
    job,
    mark_gone,
    open_session,
    progress,
    register,
    release_lost_claims,
    rescue,
    retry,
    seconds,
    settle,
)

# What besides the status may decide. Each is written straight onto the row, whether or not that status can have it.
CIRCUMSTANCES: dict[str, str] = {
    "nothing special": "priority = 0",
    "a cancel was asked for": "cancel_requested_at = holdfast.clock()",
    "the last attempt": "attempts = max_attempts - 1",
    "must not run twice": "rescue_policy = 'dead'",
    "rescued 19 times": "rescues = 19",
    "suspect, two lone crashes": "suspect = true, crashes = 2",
}

# A row that differs from a run of `me` under lease 1 in nothing but its status.
PLACE = """
UPDATE holdfast.jobs SET status = %s, lease = 1, worker_id = %s, claimed_at = holdfast.clock(),
    heartbeat_at = holdfast.clock(), deadline_at = holdfast.clock() + interval '1 hour',
    finished_at = CASE WHEN %s IN ('queued', 'running') THEN NULL ELSE holdfast.clock() END, {}
WHERE id = %s
"""


@pytest.fixture(scope="module")
def ledger(bare: str, template: str, server: EmbeddedPostgres) -> Iterator[Session]:
    with database_copy(bare, template) as dsn, open_session(dsn) as conn:
        yield conn


def end(outcome: str) -> Callable[[Session, UUID, Row], Any]:
    return lambda conn, me, run: settle(conn, me, run, outcome, delay=seconds(1))


def worker_gone(conn: Session, me: UUID, _run: Row) -> None:
    mark_gone(conn, me, reason="crashed")
    rescue(conn)


def deadline_passed(conn: Session, _me: UUID, _run: Row) -> None:
    conn.execute("UPDATE holdfast.jobs SET deadline_at = holdfast.clock() - interval '1 second'")
    calm(conn)
    rescue(conn)


def no_heartbeat(conn: Session, _me: UUID, _run: Row) -> None:
    conn.execute("UPDATE holdfast.jobs SET heartbeat_at = holdfast.clock() - interval '1 hour'")
    calm(conn)
    rescue(conn)


APPLY: dict[Event, Callable[[Session, UUID, Row], Any]] = {
    Event.CLAIM: lambda conn, _me, _run: claim(conn, register(conn)),
    Event.COMPLETE: end("complete"),
    Event.FAIL: end("fail"),
    Event.RELEASE: end("release"),
    Event.SNOOZE: end("snooze"),
    Event.PROGRESS: lambda conn, me, run: progress(conn, me, run, report=1),
    Event.CANCEL: lambda conn, _me, run: cancel(conn, run["id"]),
    Event.RETRY: lambda conn, _me, run: retry(conn, run["id"]),
    Event.WORKER_GONE: worker_gone,
    Event.DEADLINE_PASSED: deadline_passed,
    Event.NO_HEARTBEAT: no_heartbeat,
    Event.CLAIM_LOST: release_lost_claims,
}


def after(conn: Session, status: Status, event: Event, circumstance: str) -> tuple[Row, Row]:
    """The row before and after the event."""
    conn.execute("DELETE FROM holdfast.jobs")
    me = register(conn, quarantine=True)
    job_id = enqueue(conn, max_attempts=3)
    conn.execute(PLACE.format(CIRCUMSTANCES[circumstance]).encode(), (status, me, status, job_id))
    before = job(conn, job_id)
    APPLY[event](conn, me, before)
    return before, job(conn, job_id)


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("status", Status)
def test_each_event_leads_where_the_table_says(ledger: Session, status: Status, event: Event) -> None:
    reached = {Status(after(ledger, status, event, each)[1]["status"]) for each in CIRCUMSTANCES}
    assert reached - {status} == TRANSITIONS.get((status, event), frozenset())


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("status", sorted(FINAL))
def test_an_event_that_the_table_does_not_name_leaves_an_ended_row_as_it_was(
    ledger: Session, status: Status, event: Event
) -> None:
    if (status, event) in TRANSITIONS:
        return
    for circumstance in CIRCUMSTANCES:
        before, now = after(ledger, status, event, circumstance)
        if event in (Event.DEADLINE_PASSED, Event.NO_HEARTBEAT):  # what the test itself wrote to bring them about
            before = {**before, "deadline_at": now["deadline_at"], "heartbeat_at": now["heartbeat_at"]}
        assert now == before


def test_only_dead_and_cancelled_jobs_leave_the_end_and_only_by_a_retry() -> None:
    ways_out = {pair for pair in TRANSITIONS if pair[0] in FINAL}
    assert ways_out == {(Status.DEAD, Event.RETRY), (Status.CANCELLED, Event.RETRY)}


def test_the_table_knows_exactly_the_statuses_that_the_ledger_accepts(ledger: Session) -> None:
    definition = ledger.execute(
        "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE conname = 'jobs_status'"
    ).fetchone()
    assert definition is not None
    quoted = definition["text"].split("'")[1::2]
    assert set(quoted) == set(Status)


def test_only_a_claim_leads_to_running() -> None:
    assert {event for (_, event), reached in TRANSITIONS.items() if Status.RUNNING in reached} == {Event.CLAIM}
