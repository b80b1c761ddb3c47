"""Moves that SQS makes itself: begun for everything, followed to their end, and left alone by everybody else."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.mover import Mover
from holdfast.sqs.client import MoveTask, Sqs, queue_name
from tests.services.test_dlq_monitor import monitoring, told
from tests.sqs.faults import faulty
from tests.sqs.local import LocalSqs
from tests.sqs.moves import MoveTasks
from tests.support import Session, rows


@dataclass
class Place:
    """A queue with one for its dead letters, and who plays SQS's move tasks."""

    sqs: Sqs
    moves: MoveTasks
    source: str
    dead: str


@pytest.fixture(autouse=True)
def no_long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sqs.dead_letters.WAIT", 0)
    monkeypatch.setattr("holdfast.sqs.capture.WAIT", 0)


@pytest.fixture
async def place(sqs: LocalSqs) -> AsyncIterator[Place]:
    async with faulty(sqs.endpoint) as proxy:
        client, name = Sqs(proxy.url("any")), f"orders-{uuid4().hex[:8]}"
        dead = await client.create(f"{name}-dlq", {}, {})
        policy = json.dumps({"deadLetterTargetArn": (await client.attributes(dead)).arn, "maxReceiveCount": "3"})
        await client.create(name, {"RedrivePolicy": policy}, {})
        yield Place(client, MoveTasks(proxy, client), proxy.url(name), proxy.url(queue_name(dead)))
        await client.close()


@pytest.fixture
async def mover(database: str, place: Place) -> AsyncIterator[Mover]:
    ledger = AsyncLedger(database)
    yield Mover(place.sqs, ledger, place.dead, every=0.01)
    await ledger.close()


def letters(count: int) -> list[str]:
    return [json.dumps({"type": "ship", "job_id": number}) for number in range(count)]


async def test_all_that_is_there_is_moved_and_followed_to_its_end_and_what_comes_back_is_known(
    database: str, conn: Session, place: Place, mover: Mover
) -> None:
    await place.sqs.send(place.dead, letters(23))
    async with monitoring(database, place.dead) as (monitor, _):
        await monitor.look_at_queues()
        await place.sqs.send(place.dead, ["never seen"])
        seen: list[MoveTask] = []
        await mover.begin(to=place.source, rate=100)
        ended = await mover.follow("ada", seen.append)
        assert (ended.status, ended.moved, ended.total) == ("COMPLETED", 24, 24)
        assert [task.is_running for task in seen][-2:] == [True, False]
        assert (await place.sqs.attributes(place.source)).visible == 24
        decided = rows(conn, "SELECT DISTINCT outcome, outcome_by, outcome_reason FROM holdfast.dead_letters")
        reason = f"SQS moved 24 messages to {queue_name(place.source)}"
        assert decided == [{"outcome": "redriven", "outcome_by": "ada", "outcome_reason": reason}]
        await place.sqs.send(place.dead, letters(1))
        await monitor.look_at_queues()
    (back,) = rows(conn, "SELECT returns, earlier_id FROM holdfast.dead_letters WHERE gone_at IS NULL")
    assert back["returns"] == 1, "under another id, it is the same job"
    assert back["earlier_id"] is not None


async def test_a_move_whose_end_nobody_saw_is_followed_by_who_asks_again(place: Place, mover: Mover) -> None:
    await place.sqs.send(place.dead, letters(3))
    place.moves.holds = True
    await mover.begin(to=place.source)
    running = await mover.running()
    assert running is not None
    assert running.is_running
    place.moves.holds = False
    assert (await mover.follow("ada", lambda _: None)).status == "COMPLETED"
    assert await mover.running() is None


async def test_a_move_that_is_ended_or_fails_decides_nothing(
    database: str, conn: Session, place: Place, mover: Mover
) -> None:
    await place.sqs.send(place.dead, letters(3))
    async with monitoring(database, place.dead) as (monitor, _):
        await monitor.look_at_queues()
    await mover.begin()
    failed = await mover.follow("ada", lambda _: None)
    assert (failed.status, failed.why.rpartition(".")[2]) == ("FAILED", "CouldNotDetermineMessageSource")
    place.moves.holds = True
    await mover.begin(to=place.source)
    assert await mover.cancel()
    assert (await mover.follow("ada", lambda _: None)).status == "CANCELLED"
    assert not await mover.cancel()
    assert rows(conn, "SELECT FROM holdfast.dead_letters WHERE outcome IS NOT NULL") == []


@pytest.mark.parametrize("captured", [False, True])
async def test_while_sqs_moves_messages_they_are_counted_and_neither_hidden_from_it_nor_taken(
    database: str, conn: Session, place: Place, mover: Mover, captured: bool
) -> None:
    await place.sqs.send(place.dead, letters(3))
    place.moves.holds = True
    await mover.begin(to=place.source)
    names = (queue_name(place.dead),) if captured else ()
    async with monitoring(database, place.dead, captured=names) as (monitor, _):
        await monitor.look_at_queues()
        left = await place.sqs.attributes(place.dead)
        assert (left.visible, left.in_flight) == (3, 0)
        assert rows(conn, "SELECT FROM holdfast.dead_letters") == []
        assert told(conn) == [], "it is over soon"
        await mover.cancel()
        await monitor.look_at_queues()
    assert len(rows(conn, "SELECT FROM holdfast.dead_letters")) == 3
