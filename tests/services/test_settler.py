"""The ledger is told how runs ended, whatever happens on the way."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest

from holdfast.events import LedgerLost, Sinks
from holdfast.postgres.calls import Settlement
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.settler import Settler
from tests import support
from tests.services.helpers import Recorder, Relay, until
from tests.support import Row, Session


@pytest.fixture
def worker_id(conn: Session) -> UUID:
    return support.register(conn)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def settler(relay: Relay, worker_id: UUID, recorder: Recorder) -> AsyncIterator[Settler]:
    ledger = AsyncLedger(relay.dsn)
    yield Settler(ledger, worker_id, Sinks([recorder]), dice=lambda: 0.0)
    await ledger.close()


def claimed(conn: Session, worker_id: UUID, count: int) -> list[Row]:
    for _ in range(count):
        support.enqueue(conn)
    return support.claim(conn, worker_id, count)


def done(run: Row, result: str = "1") -> Settlement:
    return Settlement(run["id"], run["lease"], "complete", result=result)


def statuses(conn: Session) -> dict[UUID, str]:
    return {row["id"]: row["status"] for row in support.rows(conn, "SELECT id, status FROM holdfast.jobs")}


async def test_runs_that_end_together_are_settled_in_one_statement(
    settler: Settler, relay: Relay, conn: Session, worker_id: UUID
) -> None:
    runs = claimed(conn, worker_id, 50)
    settled = await asyncio.gather(*(settler.settle(done(run)) for run in runs))
    assert [(each.id, each.verdict) for each in settled] == [(run["id"], "applied") for run in runs]
    assert set(statuses(conn).values()) == {"succeeded"}
    assert relay.count(b"holdfast.settle(") == 1


async def test_large_results_that_end_together_are_all_told_within_the_deadline_of_a_call(
    settler: Settler, conn: Session, worker_id: UUID, recorder: Recorder
) -> None:
    """Each a megabyte, of which every second byte must be escaped where quotes are."""
    large = json.dumps({"x": '"' * 500_000})
    runs = claimed(conn, worker_id, 30)
    told = asyncio.gather(*(settler.settle(done(run, large)) for run in runs))
    settled = await asyncio.wait_for(told, 90)
    assert {each.verdict for each in settled} == {"applied"}
    assert recorder.of(LedgerLost) == []


async def test_results_wait_through_an_outage_and_are_told_on_return(
    settler: Settler, relay: Relay, conn: Session, worker_id: UUID, recorder: Recorder
) -> None:
    runs = claimed(conn, worker_id, 4)
    assert (await settler.settle(done(runs[0]))).verdict == "applied"
    await relay.down()
    waiting = [asyncio.create_task(settler.settle(done(run))) for run in runs[1:]]
    await until(lambda: len(recorder.of(LedgerLost)) >= 2, "the settler has met the outage more than once")
    assert not any(task.done() for task in waiting)
    assert sorted(statuses(conn).values()) == ["running"] * 3 + ["succeeded"]
    await relay.up()
    assert [(await task).verdict for task in waiting] == ["applied"] * 3
    assert {event.what for event in recorder.of(LedgerLost)} == {"settle"}
    assert set(statuses(conn).values()) == {"succeeded"}


@pytest.mark.parametrize("outcome", ["complete", "fail", "snooze"])
async def test_an_answer_that_was_lost_is_asked_for_again_and_counts_once(
    settler: Settler, relay: Relay, conn: Session, worker_id: UUID, outcome: str
) -> None:
    (run,) = claimed(conn, worker_id, 1)
    lost = relay.lose_answer(b"holdfast.settle(")
    error = '{"type": "E", "message": "m"}'
    settled = await settler.settle(Settlement(run["id"], run["lease"], outcome, error=error, delay=60.0))
    assert lost.is_set()
    assert settled.verdict == "already"
    row = support.job(conn, run["id"])
    assert row["status"] == ("succeeded" if outcome == "complete" else "queued")
    assert row["attempts"] == (1 if outcome == "fail" else 0)
    assert [event["event"] for event in support.events(conn, run["id"])] == {
        "complete": [], "fail": ["failure"], "snooze": ["snooze"],
    }[outcome]  # fmt: skip


@pytest.mark.parametrize("bad", [0, 3, 6])
async def test_one_value_that_postgres_refuses_ends_its_job_alone(
    settler: Settler, conn: Session, worker_id: UUID, bad: int
) -> None:
    runs = claimed(conn, worker_id, 7)
    settled = await asyncio.gather(
        *(settler.settle(done(run, '"\\ud800"' if place == bad else "1")) for place, run in enumerate(runs))
    )
    assert [each.verdict for each in settled] == ["applied"] * 7
    culprit = support.job(conn, runs[bad]["id"])
    assert (culprit["status"], culprit["fingerprint"], culprit["error"]["type"]) == (
        "dead", "result_invalid", "result_invalid",
    )  # fmt: skip
    assert "cannot be stored: invalid input syntax for type json" in culprit["error"]["message"]
    found = statuses(conn)
    assert [found[run["id"]] for place, run in enumerate(runs) if place != bad] == ["succeeded"] * 6


async def test_a_row_that_somebody_holds_locked_does_not_hold_up_the_results_of_others(
    database: str, conn: Session, connect: Callable[[], Session], worker_id: UUID, recorder: Recorder
) -> None:
    ledger = AsyncLedger(database, deadline=1.0)
    settler = Settler(ledger, worker_id, Sinks([recorder]), dice=lambda: 0.0)
    locked, *others = claimed(conn, worker_id, 5)
    somebody = connect()
    with somebody.transaction():
        somebody.execute("SELECT FROM holdfast.jobs WHERE id = %s FOR UPDATE", (locked["id"],))
        waiting = asyncio.create_task(settler.settle(done(locked)))
        settled = await asyncio.gather(*(settler.settle(done(run)) for run in others))
        assert [each.verdict for each in settled] == ["applied"] * 4
        (late,) = claimed(conn, worker_id, 1)
        assert (await settler.settle(done(late))).verdict == "applied"
        assert not waiting.done()
        assert statuses(conn)[locked["id"]] == "running"
    assert (await waiting).verdict == "applied"
    await ledger.close()
    assert set(statuses(conn).values()) == {"succeeded"}


async def test_a_run_whose_lease_is_lost_changes_nothing_and_is_counted(
    settler: Settler, conn: Session, worker_id: UUID
) -> None:
    mine, lost = claimed(conn, worker_id, 2)
    support.release_lost_claims(conn, worker_id, lost)
    before = support.job(conn, lost["id"])
    settled = await asyncio.gather(settler.settle(done(mine)), settler.settle(done(lost)))
    assert [each.verdict for each in settled] == ["applied", "lost"]
    assert support.job(conn, lost["id"]) == before
    assert support.events(conn, lost["id"])[-1]["event"] == "fenced_late_write"


async def test_idle_means_that_everything_is_told(settler: Settler, conn: Session, worker_id: UUID) -> None:
    tasks = [asyncio.create_task(settler.settle(done(run))) for run in claimed(conn, worker_id, 3)]
    await asyncio.sleep(0)
    await settler.idle()
    assert set(statuses(conn).values()) == {"succeeded"}
    await asyncio.gather(*tasks)
