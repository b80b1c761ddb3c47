"""Capture: messages of a dead-letter queue are in the ledger, whole, before they leave SQS, whoever is killed when."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from holdfast.app import new_id
from holdfast.errors import DatabaseError, QueueRefused
from holdfast.events import DeadLettersSeen, QueueLost, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.dlq_monitor import DlqMonitor
from holdfast.services.dlq_queues import Sources
from holdfast.services.keeping import Keeping
from holdfast.sqs.client import Message, Sqs, queue_name
from tests.services.helpers import Recorder, until
from tests.services.test_dlq_monitor import queue, stored, told
from tests.sqs.local import LocalSqs
from tests.support import Session, rows


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


@asynccontextmanager
async def capturing(
    database: str, *urls: str, names: tuple[str, ...] | None = None
) -> AsyncIterator[tuple[DlqMonitor, Recorder]]:
    recorder, ledger = Recorder(), AsyncLedger(database)
    sources = Sources(urls, (), tuple(map(queue_name, urls)) if names is None else names)
    made = DlqMonitor(ledger, sources, ["log"], Sinks([recorder]), interval=300.0, new_id=new_id, retry_after=0.1)
    try:
        yield made, recorder
    finally:
        await ledger.close()
        assert made._sqs is not None
        await made._sqs.close()


async def left(client: Sqs, url: str) -> int:
    found = await client.attributes(url)
    return found.visible + found.in_flight


async def test_all_of_a_captured_queue_is_in_the_ledger_and_out_of_sqs(
    database: str, conn: Session, client: Sqs
) -> None:
    url = await queue(client)
    bodies = {json.dumps({"type": "ship" if n % 3 else "bill", "n": n}) for n in range(157)}
    await client.send(url, sorted(bodies))
    async with capturing(database, url) as (monitor, recorder):
        await monitor.look_at_queues()
        assert await left(client, url) == 0
        await monitor.look_at_queues()
    assert {each["body"] for each in stored(conn)} == bodies
    assert all(each["captured_at"] and each["gone_at"] is None for each in stored(conn))
    assert sum(each.new for each in recorder.of(DeadLettersSeen)) == 157
    name = queue_name(url)
    assert sorted(told(conn)) == [
        ("first", f"104 messages of ship in {name}"),
        ("first", f"53 messages of bill in {name}"),
    ], "told once, and not over: what was captured is there until somebody decides about it"


async def test_only_the_queue_that_was_named_is_captured(database: str, conn: Session, client: Sqs) -> None:
    ours, other = await queue(client), await queue(client)
    for url in (ours, other):
        await client.send(url, ["letter"])
    async with capturing(database, ours, other, names=(queue_name(ours),)) as (monitor, _):
        await monitor.look_at_queues()
    assert (await left(client, ours), await left(client, other)) == (0, 1)
    assert {each["queue"]: each["captured_at"] is not None for each in stored(conn)} == {
        queue_name(ours): True,
        queue_name(other): False,
    }


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_whoever_is_killed_in_mid_capture_loses_nothing_and_stores_each_message_once(
    database: str, conn: Session, client: Sqs, moment: str
) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {n}" for n in range(30)])
    killed = subprocess.run(
        [sys.executable, "-m", "tests.services.killed_capture", moment, database, url], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    assert bool(stored(conn)) == (moment == "after")
    assert await left(client, url) == 30, "killed before anything was deleted"
    async with capturing(database, url) as (monitor, _):

        async def emptied() -> bool:
            await monitor.look_at_queues()
            return await left(client, url) == 0

        await until(emptied)
    assert sorted(each["body"] for each in stored(conn)) == sorted(f"letter {n}" for n in range(30))


async def test_a_ledger_that_fails_in_mid_capture_leaves_all_in_the_queue_and_visible(
    database: str, conn: Session, client: Sqs
) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {n}" for n in range(30)])
    conn.execute("ALTER TABLE holdfast.dead_letters RENAME TO away")
    try:
        async with capturing(database, url) as (monitor, _):
            with pytest.raises(DatabaseError):
                await monitor._looker.look_at(client, url)
    finally:
        conn.execute("ALTER TABLE holdfast.away RENAME TO dead_letters")
    found = await client.attributes(url)
    assert (found.visible, found.in_flight) == (30, 0)


async def test_what_sqs_will_not_delete_is_kept_is_told_and_is_stored_once(
    database: str, conn: Session, client: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {n}" for n in range(12)])

    async def refuses(*args: object) -> list[str]:
        raise QueueRefused("SQS refuses this for queue 'orders': AccessDenied")

    async with capturing(database, url) as (monitor, recorder):
        assert monitor._sqs is not None
        with monkeypatch.context() as patched:
            patched.setattr(monitor._sqs, "delete", refuses)
            await monitor.look_at_queues()
        assert recorder.of(QueueLost)
        assert await left(client, url) == 12
        await monitor.look_at_queues()
    assert await left(client, url) == 0
    assert len(stored(conn)) == 12


async def test_what_is_needed_to_send_it_again_is_kept_whole(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client)
    body = "x" * 1_000_000
    attributes = {
        "job_id": {"DataType": "String", "StringValue": "42"},
        "tries": {"DataType": "Number.int", "StringValue": "7"},
        "blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    await client.attributes(url)
    await client._call(url, "send_message", MessageBody=body, MessageAttributes=attributes)
    async with capturing(database, url) as (monitor, _):
        await monitor.look_at_queues()
    (letter,) = stored(conn)
    assert (letter["body"], letter["job_id"]) == (body, "42")
    assert letter["original"]["attributes"] == {
        "job_id": attributes["job_id"],
        "tries": attributes["tries"],
        "blob": {"DataType": "Binary", "BinaryValue": "AP8="},
    }
    assert "SentTimestamp" in letter["original"]["system"]
    assert "SenderId" not in letter["original"]["system"]


async def test_what_postgres_cannot_hold_is_noted_and_not_deleted(database: str, conn: Session) -> None:
    ledger = AsyncLedger(database)
    good, bad = Message("1", "r1", "fine", {}, 1, None), Message("2", "r2", "a\x00b", {}, 1, None)
    kept = await Keeping(ledger, "orders-dlq", new_id).keep([good, bad])
    await ledger.close()
    assert kept == [good]
    assert {each["key"]: each["captured_at"] is not None for each in stored(conn)} == {"1": True, "2": False}


async def test_a_name_that_is_no_watched_queue_is_told(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client)
    async with capturing(database, url, names=("oders-dlq",)) as (monitor, _):
        await monitor.look_at_queues()
    assert told(conn) == [("first", "The dead letters of oders-dlq cannot be looked at")]
    (content,) = rows(conn, "SELECT content::text AS text FROM holdfast.notifications")
    assert "HOLDFAST_DLQ_CAPTURE names it" in content["text"]


async def test_a_queue_with_a_redrive_policy_of_its_own_is_counted_and_says_so(
    database: str, conn: Session, client: Sqs
) -> None:
    last = (await client.attributes(await queue(client))).arn
    url = await queue(client, RedrivePolicy=json.dumps({"deadLetterTargetArn": last, "maxReceiveCount": "1"}))
    await client.send(url, ["one", "two"])
    async with capturing(database, url) as (monitor, _):
        await monitor.look_at_queues()
    assert told(conn) == [("first", f"2 messages in {queue_name(url)}")]
    assert await left(client, url) == 2


async def test_a_fifo_queue_is_captured_since_nothing_stays_to_block_its_groups(
    database: str, conn: Session, client: Sqs
) -> None:
    url = await client.create(f"dead-{uuid4().hex[:8]}.fifo", {"FifoQueue": "true"}, {})
    for n in range(3):
        await client._call(url, "send_message", MessageBody=f"{n}", MessageGroupId="g", MessageDeduplicationId=f"{n}")
    async with capturing(database, url) as (monitor, _):
        await monitor.look_at_queues()
    assert sorted(each["body"] for each in stored(conn)) == ["0", "1", "2"]
    assert {each["original"]["system"]["MessageGroupId"] for each in stored(conn)} == {"g"}
    assert await left(client, url) == 0
