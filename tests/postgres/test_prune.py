"""What retention removes, and what it leaves."""

from datetime import timedelta
from uuid import UUID

from tests.support import Session, advance, claim_one, enqueue, events, job, mark_gone, register, row, rows, settle

DAY = timedelta(days=1)


def prune(conn: Session, max_jobs: int = 1000) -> tuple[int, int, int]:
    found = row(conn, "SELECT * FROM holdfast.prune('7 days', '90 days', %s)", max_jobs)
    return found["finished"], found["dead"], found["workers"]


def ended(conn: Session, outcome: str) -> UUID:
    worker_id = register(conn)
    job_id = enqueue(conn)
    settle(conn, worker_id, claim_one(conn, worker_id), outcome)
    return job_id


def exists(conn: Session, job_id: UUID) -> bool:
    return bool(rows(conn, "SELECT FROM holdfast.jobs WHERE id = %s", job_id))


def test_succeeded_jobs_are_kept_for_seven_days_and_dead_ones_for_ninety(conn: Session) -> None:
    succeeded, dead = ended(conn, "complete"), ended(conn, "fail")
    assert job(conn, dead)["status"] == "dead"
    advance(conn, 6 * DAY)
    prune(conn)
    assert (exists(conn, succeeded), exists(conn, dead)) == (True, True)
    advance(conn, 2 * DAY)
    assert prune(conn)[:2] == (1, 0)
    assert (exists(conn, succeeded), exists(conn, dead)) == (False, True)
    advance(conn, 83 * DAY)
    assert prune(conn)[:2] == (0, 1)
    assert not exists(conn, dead)
    assert events(conn, dead) == []


def test_a_queued_or_running_job_is_never_pruned_however_old(conn: Session) -> None:
    worker_id = register(conn)
    running, queued = enqueue(conn), enqueue(conn, kind="unknown")
    claim_one(conn, worker_id)
    advance(conn, 400 * DAY)
    prune(conn)
    assert (exists(conn, running), exists(conn, queued)) == (True, True)


def test_a_gone_worker_goes_only_when_it_holds_no_job(conn: Session) -> None:
    holder, idle = register(conn), register(conn)
    enqueue(conn)
    claim_one(conn, holder)
    mark_gone(conn, holder, idle)
    advance(conn, 2 * DAY)
    assert prune(conn)[2] == 1
    assert [found["id"] for found in rows(conn, "SELECT id FROM holdfast.workers")] == [holder]


def test_one_step_removes_no_more_than_it_may(conn: Session) -> None:
    for _ in range(5):
        ended(conn, "complete")
    advance(conn, 8 * DAY)
    assert [prune(conn, 2)[0] for _ in range(4)] == [2, 2, 1, 0]


def test_dead_jobs_that_ended_at_one_moment_do_not_stop_the_pruner(conn: Session) -> None:
    for _ in range(3):
        ended(conn, "fail")
    conn.execute("UPDATE holdfast.jobs SET finished_at = (SELECT max(finished_at) FROM holdfast.jobs)")
    newer = ended(conn, "complete")
    advance(conn, 8 * DAY)
    first = row(conn, "SELECT * FROM holdfast.prune('7 days', '90 days', 3)")
    assert (first["finished"], first["looked_at"]) == (0, 3)
    second = row(
        conn, "SELECT * FROM holdfast.prune('7 days', '90 days', 3, %s, %s)", first["last_at"], first["last_id"]
    )
    assert second["finished"] == 1
    assert not exists(conn, newer)
