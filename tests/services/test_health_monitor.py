"""The health monitor against a real ledger: what fails at two looks in a row is told of, and so is its end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from holdfast.app import new_id
from holdfast.core import telling
from holdfast.core.limit_watch import KEPT_FOR, Seen
from holdfast.events import IncidentChanged, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.rate_limit import rate_limit_beat
from holdfast.postgres.reads import begin_sweep
from holdfast.services.health_monitor import EVERY, MONITOR, HealthMonitor
from tests.services.helpers import Recorder, until
from tests.support import Session, advance, beat, enqueue, register, rows

#: A look, if one is due; whether one was.
Look = Callable[[], Awaitable[bool]]


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[AsyncLedger]:
    made = AsyncLedger(database)
    yield made
    await made.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def monitor(ledger: AsyncLedger, recorder: Recorder) -> HealthMonitor:
    return HealthMonitor(ledger, [], ["log"], Sinks([recorder]), stale_after=600.0, new_id=new_id)


@pytest.fixture
def look(monitor: HealthMonitor, ledger: AsyncLedger, conn: Session) -> Look:
    """The next look, 15 seconds later by the ledger's clock, with what the one before has left there."""

    async def step() -> bool:
        advance(conn, timedelta(seconds=EVERY + 1))
        left = await ledger.call(begin_sweep(MONITOR, EVERY))
        for each in left:
            await monitor.step(each.get("strikes") or {}, Seen.read(each.get("limits")))
        return bool(left)

    return step


def told(conn: Session, kind: str, key: str = "") -> list[str]:
    """Why somebody was told of this incident."""
    return [
        each["reason"]
        for each in rows(
            conn,
            "SELECT n.reason FROM holdfast.notifications n JOIN holdfast.incidents i ON i.id = n.incident_id"
            f" WHERE i.kind = '{kind}' AND i.key = '{key}' ORDER BY n.created_at",
        )
    ]


async def decided(ledger: AsyncLedger, source: str, number: int) -> None:
    """A limiting process tells what it decided since it told last."""
    await ledger.call(rate_limit_beat(uuid4(), {("default", source, "admitted"): number}, {}, 1000))


async def test_a_check_that_fails_at_two_looks_in_a_row_is_an_incident_until_it_passes(
    look: Look, conn: Session, recorder: Recorder
) -> None:
    enqueue(conn)
    advance(conn, timedelta(hours=1))
    await look()
    assert told(conn, telling.FAILING, "workers") == [], "once may be a moment"
    await look()
    await look()
    assert told(conn, telling.FAILING, "workers") == ["first"]
    (opened,) = [each for each in recorder.of(IncidentChanged) if each.title.startswith("workers")]
    assert "due" in opened.title
    worker = register(conn)
    await look()
    assert told(conn, telling.FAILING, "workers") == ["first"], "once may be a moment here too"
    beat(conn, worker)
    await look()
    assert told(conn, telling.FAILING, "workers") == ["first", "resolved"]


async def test_a_check_that_passes_in_between_begins_anew(look: Look, conn: Session) -> None:
    enqueue(conn)
    advance(conn, timedelta(hours=1))
    await look()
    worker = register(conn)
    await look()
    conn.execute("DELETE FROM holdfast.workers WHERE id = %s", (worker,))
    await look()
    assert told(conn, telling.FAILING, "workers") == []
    await look()
    assert told(conn, telling.FAILING, "workers") == ["first"]


async def test_limits_decided_without_postgres_are_an_incident_until_there_are_no_more(
    look: Look, ledger: AsyncLedger, conn: Session
) -> None:
    await decided(ledger, "postgres", 1000)
    await look()
    await decided(ledger, "memory", 400)
    await look()
    assert told(conn, telling.ALONE) == ["first"]
    (incident,) = rows(conn, f"SELECT title FROM holdfast.incidents WHERE kind = '{telling.ALONE}'")
    assert incident["title"] == "Rate limits were kept without Postgres: 400 decisions"
    for _ in range(KEPT_FOR + 1):
        await decided(ledger, "postgres", 1000)
        await look()
    assert told(conn, telling.ALONE) == ["first", "resolved"]


async def test_a_few_decisions_without_postgres_are_told_to_nobody(
    look: Look, ledger: AsyncLedger, conn: Session
) -> None:
    await decided(ledger, "postgres", 1000)
    await look()
    await decided(ledger, "postgres", 1000)
    await decided(ledger, "memory", 30)
    await look()
    assert told(conn, telling.ALONE) == []


async def test_one_process_looks_for_all(ledger: AsyncLedger, look: Look, conn: Session) -> None:
    assert await look()
    assert await ledger.call(begin_sweep(MONITOR, EVERY)) == []
    assert await look()


async def test_it_looks_by_itself_and_goes_on_after_a_look_that_failed(
    monitor: HealthMonitor, recorder: Recorder, conn: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.services.health_monitor.TURN", 0.01)
    conn.execute("ALTER TABLE holdfast.monitors RENAME TO away")
    task = asyncio.create_task(monitor.run())
    try:
        await until(lambda: recorder.events)
        conn.execute("ALTER TABLE holdfast.away RENAME TO monitors")
        await until(
            lambda: rows(conn, f"SELECT FROM holdfast.monitors WHERE name = '{MONITOR}' AND last_result ? 'strikes'")
        )
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
