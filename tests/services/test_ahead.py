"""Jobs that a worker has claimed before it has a slot for them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast import Holdfast, JobCancelled
from holdfast.core.pacing import most_ahead
from holdfast.handles import JobKind
from tests import support
from tests.services.helpers import Running, until, working
from tests.support import Session


class Stage:
    """Handlers of `hold` stand until it is open; `ran` are the numbers that began."""

    def __init__(self, hf: Holdfast) -> None:
        self.open = asyncio.Event()
        self.ran: list[int] = []

        @hf.job(queue="stage")
        async def hold(n: int) -> int:
            self.ran.append(n)
            await self.open.wait()
            return n

        self.kind: JobKind[Any, Any] = hold


@pytest.fixture
def stage(hf: Holdfast) -> Stage:
    return Stage(hf)


@pytest.fixture
async def quick(
    database: str, hf: Holdfast, stage: Stage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Running]:
    """A worker of one slot whose last handlers were quick: it claims one job ahead. It has claimed jobs 1 and 2.

    What waits is patient, but for the test of those that are not.
    """
    async with working(database, hf, slots=1, drain_timeout=1.0) as running:
        if "too_long" not in request.node.name:
            monkeypatch.setattr("holdfast.services.ahead.LONGEST_WAIT", 3600.0)
        was_quick(running)
        await hf.enqueue_many(stage.kind.prepare(n) for n in (1, 2, 3))
        await until(lambda: len(running.worker._ahead) == 1)
        yield running
        stage.open.set()


def was_quick(running: Running) -> None:
    for _ in range(200):
        running.worker._ahead.ended(0.001)
        running.worker._ahead.answered(0.002)


def statuses(conn: Session) -> list[tuple[str, int]]:
    found = support.rows(conn, "SELECT status, attempts FROM holdfast.jobs ORDER BY args -> 'n'")
    return [(each["status"], each["attempts"]) for each in found]


def test_nothing_is_claimed_ahead_before_handlers_were_seen_to_be_quick() -> None:
    from holdfast.services.ahead import Ahead

    ahead = Ahead(100)
    ahead.answered(0.01)
    assert ahead.most == 0
    for _ in range(100):
        ahead.ended(0.01)
        ahead.answered(0.01)
    assert 50 < ahead.most <= 100


def test_no_more_wait_than_there_are_slots() -> None:
    assert most_ahead(slots=10, round_trip=5.0, ran=0.001) == 10
    assert most_ahead(slots=10, round_trip=5.0, ran=0.0) == 10


async def test_a_job_that_waits_begins_when_a_slot_is_free(quick: Running, stage: Stage, conn: Session) -> None:
    assert statuses(conn) == [("running", 0), ("running", 0), ("queued", 0)]
    assert stage.ran == [1]
    stage.open.set()
    await until(lambda: [status for status, _ in statuses(conn)] == ["succeeded"] * 3)
    assert stage.ran == [1, 2, 3]


async def test_a_job_that_waits_too_long_is_given_back_and_no_other_claimed_ahead(
    quick: Running, stage: Stage, conn: Session
) -> None:
    await until(lambda: statuses(conn) == [("running", 0), ("queued", 0), ("queued", 0)])
    assert (len(quick.worker._ahead), quick.worker._ahead.most) == (0, 0)
    assert stage.ran == [1]


async def test_a_worker_that_drains_gives_back_what_waits_at_once(quick: Running, stage: Stage, conn: Session) -> None:
    quick.worker.drain()
    await until(lambda: statuses(conn) == [("running", 0), ("queued", 0), ("queued", 0)])
    stage.open.set()
    await quick.task
    assert stage.ran == [1]
    assert statuses(conn) == [("succeeded", 0), ("queued", 0), ("queued", 0)]


async def test_a_job_that_is_cancelled_while_it_waits_never_runs(
    hf: Holdfast, quick: Running, stage: Stage, conn: Session
) -> None:
    (waiting,) = [run.job.id for run in quick.worker._ahead._waiting]
    await hf.handle(waiting).cancel()
    with pytest.raises(JobCancelled):
        await hf.handle(waiting).result(timeout=20)
    assert stage.ran == [1]


async def test_a_worker_that_was_declared_gone_writes_nothing_of_what_waits(
    quick: Running, stage: Stage, conn: Session
) -> None:
    (waiting,) = [run.job.id for run in quick.worker._ahead._waiting]
    support.mark_gone(conn, quick.id)
    await asyncio.wait_for(quick.task, 20)
    assert stage.ran == [1]
    row = support.job(conn, waiting)
    assert (row["attempts"], row["settled_as"], row["lease"]) == (0, None, row["lease"])
