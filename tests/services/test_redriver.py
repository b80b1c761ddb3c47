"""Redrives of messages, against a real SQS server: sent as they were, back to their queue, once if nobody dies."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.app import new_id
from holdfast.errors import QueueRefused, QueueUnavailable
from holdfast.events import QueueLost, RedriveChanged, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.redrives import LetterFilter, RedriveLine, RedriveOptions, list_redrives, redrive_dead_letters
from holdfast.services.dlq_monitor import DlqMonitor
from holdfast.services.dlq_queues import Sources
from holdfast.services.redriver import Redriver
from holdfast.sqs.client import Message, Sqs, queue_name
from tests.services.helpers import Recorder, until
from tests.sqs.local import LocalSqs
from tests.support import Session, row, rows


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


@dataclass
class Pair:
    """A queue and the one for its dead letters."""

    source: str
    dead: str
    sources: Sources


@pytest.fixture
async def pair(client: Sqs) -> Pair:
    name = f"orders-{uuid4().hex[:8]}"
    dead = await client.create(f"{name}-dlq", {}, {})
    policy = json.dumps({"deadLetterTargetArn": (await client.attributes(dead)).arn, "maxReceiveCount": "3"})
    source = await client.create(name, {"RedrivePolicy": policy}, {})
    return Pair(source, dead, Sources(source_urls=(source,)))


@asynccontextmanager
async def redriving(database: str, sources: Sources) -> AsyncIterator[tuple[Redriver, AsyncLedger, Recorder]]:
    recorder, ledger = Recorder(), AsyncLedger(database)
    made = Redriver(ledger, sources, Sinks([recorder]), owner=new_id(), new_id=new_id)
    try:
        yield made, ledger, recorder
    finally:
        await made.close()
        await ledger.close()


async def look(database: str, pair: Pair, *, captured: bool) -> None:
    ledger = AsyncLedger(database)
    sources = Sources((), (pair.source,), (queue_name(pair.dead),) if captured else ())
    monitor = DlqMonitor(ledger, sources, ["log"], Sinks([]), interval=300.0, new_id=new_id, retry_after=0.1)
    await monitor.look_at_queues()
    assert monitor._sqs is not None
    await monitor._sqs.close()
    await ledger.close()


async def begin(ledger: AsyncLedger, *, wanted: LetterFilter | None = None, **options: Any) -> UUID:
    id = uuid4()
    await ledger.one(redrive_dead_letters(id, wanted or LetterFilter(), RedriveOptions("ada", **options)))
    return id


async def run(
    redriver: Redriver, ledger: AsyncLedger, id: UUID, *, until_: tuple[str, ...] = ("watching",)
) -> RedriveLine:
    """Step by step, without the pauses, until it is where no step is left but to wait."""
    for _ in range(100):
        await redriver.step()
        (found,) = await ledger.call(list_redrives(str(id)))
        if found.status in {*until_, "paused", "stopped", "done"}:
            return found
    raise AssertionError("the redrive does not come to its end")


async def drain(client: Sqs, url: str) -> list[Message]:
    found: list[Message] = []
    while messages := await client.receive(url):
        found += messages
        await client.delete(url, [message.receipt for message in messages])
    return found


async def left(client: Sqs, url: str) -> int:
    found = await client.attributes(url)
    return found.visible + found.in_flight


@pytest.mark.parametrize("captured", [True, False])
async def test_messages_go_back_to_their_queue_as_they_were(
    database: str, conn: Session, client: Sqs, pair: Pair, captured: bool
) -> None:
    attributes = {
        "tries": {"DataType": "Number", "StringValue": "7"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\0"},
    }
    await client.send(pair.dead, [f"letter {n}" for n in range(22)])
    await client._call(pair.dead, "send_message", MessageBody="rich", MessageAttributes=attributes)
    await look(database, pair, captured=captured)
    async with redriving(database, pair.sources) as (redriver, ledger, recorder):
        id = await begin(ledger)
        found = await run(redriver, ledger, id)
    assert (found.status, found.sent) == ("watching", 23), found
    back = await drain(client, pair.source)
    assert sorted(each.body for each in back) == sorted(["rich", *(f"letter {n}" for n in range(22))])
    (rich,) = [each for each in back if each.body == "rich"]
    assert {name: each for name, each in rich.original["attributes"].items() if name != "holdfast_letter"} == {
        "tries": {"DataType": "Number", "StringValue": "7"},
        "raw": {"DataType": "Binary", "BinaryValue": "AA=="},
    }
    assert await left(client, pair.dead) == 0
    decided = rows(conn, "SELECT DISTINCT outcome, outcome_by, gone_at IS NOT NULL AS gone FROM holdfast.dead_letters")
    assert decided == [{"outcome": "redriven", "outcome_by": "ada", "gone": True}]
    assert recorder.of(RedriveChanged)


async def test_one_that_waits_for_outcomes_holds_up_no_other(
    database: str, conn: Session, client: Sqs, pair: Pair
) -> None:
    await client.send(pair.dead, [json.dumps({"type": kind, "n": n}) for kind in ("ship", "bill") for n in range(3)])
    await look(database, pair, captured=True)
    async with redriving(database, pair.sources) as (redriver, ledger, _):
        first = await begin(ledger, wanted=LetterFilter(kind="ship"))
        assert (await run(redriver, ledger, first)).status == "watching"
        second = await begin(ledger, wanted=LetterFilter(kind="bill"))
        assert (await run(redriver, ledger, second)).sent == 3
        pauses = [await redriver.step() for _ in range(4)]
    assert len([each for each in pauses if each]) >= 1, "both wait: there is a pause"


async def test_only_what_was_meant_leaves_a_queue_that_is_not_captured(
    database: str, conn: Session, client: Sqs, pair: Pair
) -> None:
    await client.send(pair.dead, [json.dumps({"type": "ship" if n % 2 else "bill", "n": n}) for n in range(12)])
    await look(database, pair, captured=False)
    async with redriving(database, pair.sources) as (redriver, ledger, _):
        id = await begin(ledger, wanted=LetterFilter(kind="ship"))
        found = await run(redriver, ledger, id)
    assert found.sent == 6
    assert {json.loads(each.body)["type"] for each in await drain(client, pair.source)} == {"ship"}
    assert {json.loads(each.body)["type"] for each in await drain(client, pair.dead)} == {"bill"}


async def test_a_letter_that_comes_back_is_linked_and_stops_the_redrive(
    database: str, conn: Session, client: Sqs, pair: Pair
) -> None:
    await client.send(pair.dead, [json.dumps({"type": "ship", "n": n}) for n in range(5)])
    await look(database, pair, captured=True)
    async with redriving(database, pair.sources) as (redriver, ledger, _):
        id = await begin(ledger, canary=1)
        await run(redriver, ledger, id, until_=("checking",))
        (sent,) = await client.receive(pair.source)
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in sent.attributes.items()}
        await client._call(pair.dead, "send_message", MessageBody=sent.body, MessageAttributes=attributes)
        await look(database, pair, captured=True)
        found = await run(redriver, ledger, id)
    assert (found.status, found.returned, found.remaining) == ("stopped", 1, 4)
    assert found.reason == "1 of 1 came back with the cause that they had"
    back = row(conn, "SELECT returns, earlier_id FROM holdfast.dead_letters WHERE returns > 0")
    assert back["returns"] == 1
    assert "holdfast_letter" not in json.dumps(rows(conn, "SELECT attributes FROM holdfast.dead_letters"))


async def test_they_can_be_sent_elsewhere_and_to_a_fifo_queue(
    database: str, conn: Session, client: Sqs, pair: Pair
) -> None:
    other = await client.create(f"other-{uuid4().hex[:8]}.fifo", {"FifoQueue": "true"}, {})
    await client.send(pair.dead, ["a", "b", "c"])
    await look(database, pair, captured=True)
    async with redriving(database, pair.sources) as (redriver, ledger, _):
        id = await begin(ledger, target=queue_name(other))
        assert (await run(redriver, ledger, id)).sent == 3
    assert await left(client, other) == 3
    assert await left(client, pair.source) == 0


async def test_where_no_source_is_known_it_says_how_to_tell(
    database: str, conn: Session, client: Sqs, pair: Pair
) -> None:
    await client.send(pair.dead, ["a"])
    await look(database, pair, captured=True)
    async with redriving(database, Sources((pair.dead,))) as (redriver, ledger, _):
        id = await begin(ledger)
        found = await run(redriver, ledger, id)
    assert (found.status, found.failed) == ("done", 1)
    detail = row(conn, "SELECT detail FROM holdfast.redrive_letters")["detail"]
    assert "say where to send them: --to QUEUE" in detail
    assert row(conn, "SELECT gone_at, outcome FROM holdfast.dead_letters") == {"gone_at": None, "outcome": None}


async def test_what_sqs_refuses_pauses_it_and_an_outage_is_waited_for(
    database: str, conn: Session, client: Sqs, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.send(pair.dead, ["a", "b"])
    await look(database, pair, captured=True)
    async with redriving(database, pair.sources) as (redriver, ledger, recorder):
        id = await begin(ledger)
        assert redriver._sqs is not None

        async def away(*args: object) -> dict[str, str]:
            raise QueueUnavailable("SQS does not answer")

        async def refuses(*args: object) -> dict[str, str]:
            raise QueueRefused("SQS refuses this for queue 'orders': AccessDenied")

        with monkeypatch.context() as patched:
            patched.setattr(redriver._sqs, "send_entries", away)
            assert await redriver.step() == 10.0
            assert len(recorder.of(QueueLost)) == 1
        with monkeypatch.context() as patched:
            patched.setattr(redriver._sqs, "send_entries", refuses)
            assert (await run(redriver, ledger, id)).reason == "SQS refuses this for queue 'orders': AccessDenied"
        conn.execute("SELECT holdfast.change_redrive(%s, 'resume')", (id,))
        assert (await run(redriver, ledger, id)).sent == 2
    assert sorted(each.body for each in await drain(client, pair.source)) == ["a", "b"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_whoever_is_killed_in_mid_redrive_loses_nothing_and_a_double_is_told(
    database: str, conn: Session, client: Sqs, pair: Pair, moment: str
) -> None:
    await client.send(pair.dead, [f"letter {n}" for n in range(15)])
    await look(database, pair, captured=True)
    async with redriving(database, pair.sources) as (redriver, ledger, _):
        id = await begin(ledger)
        killed = subprocess.run(
            [sys.executable, "-m", "tests.services.killed_redrive", moment, database, pair.source],
            check=False,
            timeout=60,
        )
        assert killed.returncode == -signal.SIGKILL

        async def ended() -> bool:
            await redriver.step()
            (found,) = await ledger.call(list_redrives(str(id)))
            return found.status == "watching"

        await until(ended)
    bodies = [each.body for each in await drain(client, pair.source)]
    assert {*bodies} == {f"letter {n}" for n in range(15)}
    assert len(bodies) == (15 if moment == "before" else 25), "one batch was sent, and nobody knew"
    told = rows(conn, "SELECT count(*) AS n FROM holdfast.redrive_letters WHERE detail = 'it may have been sent twice'")
    assert told == [{"n": 15}]
