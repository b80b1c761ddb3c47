"""One sweep: what it leaves on record."""

from psycopg.types.json import Jsonb

from holdfast.events import Event, JobRescued, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import begin_sweep
from holdfast.services.pruner import Pruner
from holdfast.services.sweeper import Sweeper
from tests.support import Session, advance, claim_one, enqueue, register, row, seconds


class Kept:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def last_result(conn: Session, monitor: str) -> object:
    return row(conn, "SELECT last_result FROM holdfast.monitors WHERE name = %s", monitor)["last_result"]


async def test_a_sweep_tells_each_rescue_with_its_age_and_leaves_its_numbers_in_monitors(
    database: str, conn: Session
) -> None:
    enqueue(conn, timeout=60)
    me = register(conn)
    claim_one(conn, me)
    conn.execute("SELECT holdfast.mark_workers_gone()")
    advance(conn, seconds(91))
    conn.execute("SELECT holdfast.beat(%s, %s)", (me, Jsonb({})))
    conn.execute("UPDATE holdfast.monitors SET swept_at = holdfast.clock(), resumed_at = '-infinity'")
    ledger, kept = AsyncLedger(database), Kept()
    assert await Sweeper(ledger, Sinks([kept]), interval=5, stale_after=600).step() == 1
    await Pruner(ledger, Sinks([]), keep_finished=1, keep_dead=1).step()
    await ledger.close()
    (rescued,) = [event for event in kept.events if isinstance(event, JobRescued)]
    assert (rescued.reason, rescued.lease, rescued.worker_id) == ("deadline_passed", 1, me)
    assert rescued.silent_for is not None
    assert 91 <= rescued.silent_for < 151
    assert last_result(conn, "rescue_stale_jobs") == {"rescued": 1, "gone": 0, "held": {}, "locked": 0, "locked_by": []}
    assert last_result(conn, "prune") == {"finished": 0, "dead": 0}


async def test_sweeps_go_on_when_the_clock_of_the_ledger_was_set_back(database: str, conn: Session) -> None:
    ledger = AsyncLedger(database)
    assert await ledger.call(begin_sweep("rescue_stale_jobs", 5.0))
    advance(conn, seconds(-3600))
    assert await ledger.call(begin_sweep("rescue_stale_jobs", 5.0))
    assert not await ledger.call(begin_sweep("rescue_stale_jobs", 5.0))
    await ledger.close()
