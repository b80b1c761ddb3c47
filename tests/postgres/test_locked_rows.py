"""A stuck job whose row somebody holds locked cannot be rescued; who that is must be told."""

from collections.abc import Callable
from datetime import timedelta

from holdfast.postgres import reads
from holdfast.postgres.ledger import SyncLedger
from tests.support import Session, advance, claim_one, enqueue, mark_gone, register, rescue, row


def test_who_holds_a_stuck_jobs_row_for_over_a_minute_is_named(database: str, connect: Callable[[], Session]) -> None:
    conn, other = connect(), connect()
    worker_id = register(conn)
    job_id = enqueue(conn)
    claim_one(conn, worker_id)
    mark_gone(conn, worker_id)
    other.execute("BEGIN")
    other.execute("SELECT FROM holdfast.jobs WHERE id = %s FOR UPDATE", (job_id,))
    ledger = SyncLedger(database)
    assert rescue(conn) == []
    assert ledger.call(reads.locked_stale_jobs(600)) == []
    advance(conn, timedelta(seconds=61))
    (locked,) = ledger.call(reads.locked_stale_jobs(600))
    assert (locked.id, locked.reason, locked.state) == (job_id, "worker_gone", "idle in transaction")
    assert locked.pid == row(other, "SELECT pg_backend_pid() AS pid")["pid"]
    other.execute("ROLLBACK")
    assert [found["id"] for found in rescue(conn)] == [job_id]
    assert ledger.call(reads.locked_stale_jobs(600)) == []
    ledger.close()
