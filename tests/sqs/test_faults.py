"""The seam to SQS on a bad day: what does not work is told, and nothing stays hidden."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from holdfast.errors import QueueError, QueueNotFound, QueueRefused, QueueUnavailable
from holdfast.sqs.client import Refused, Sqs, queue_name
from tests.services.helpers import until
from tests.sqs.faults import FaultProxy, faulty
from tests.sqs.local import LocalSqs


@pytest.fixture
async def proxy(sqs: LocalSqs) -> AsyncIterator[FaultProxy]:
    async with faulty(sqs.endpoint) as made:
        yield made


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Sqs]:
    made = Sqs(proxy.url("any"))
    yield made
    proxy.heal()
    await made.close()


@pytest.fixture
async def url(client: Sqs, proxy: FaultProxy) -> str:
    name = f"faults-{uuid4().hex[:8]}"
    await client.create(name, {"VisibilityTimeout": "30"}, {})
    return proxy.url(name)


@pytest.mark.parametrize("code", ["ThrottlingException", "ServiceUnavailable", "InternalFailure"])
async def test_what_is_over_soon_is_tried_again_by_the_sdk(client: Sqs, proxy: FaultProxy, url: str, code: str) -> None:
    proxy.fail("SendMessageBatch", code, times=1)
    assert await client.send(url, ["one"]) == []
    assert proxy.asked["SendMessageBatch"] == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ThrottlingException", QueueUnavailable),
        ("RequestThrottled", QueueUnavailable),
        ("OverLimit", QueueUnavailable),
        ("ExpiredToken", QueueRefused),
        ("AccessDenied", QueueRefused),
    ],
)
async def test_what_lasts_is_told_by_what_helps_time_or_people(
    client: Sqs, proxy: FaultProxy, url: str, code: str, error: type[QueueError]
) -> None:
    proxy.fail("ReceiveMessage", code)
    with pytest.raises(error, match=code):
        await client.receive(url)
    assert proxy.asked["ReceiveMessage"] <= 3


async def test_a_queue_that_was_deleted_is_told_by_its_class_whatever_its_code(client: Sqs, proxy: FaultProxy) -> None:
    with pytest.raises(QueueNotFound, match="there is no queue 'gone'"):
        await client.receive(proxy.url("gone"))


async def test_each_entry_that_is_refused_is_told_by_its_place(client: Sqs, proxy: FaultProxy, url: str) -> None:
    proxy.refuse("SendMessageBatch", {1: "InternalError", 3: "InvalidMessageContents"}.get)
    assert await client.send(url, [f"message {number}" for number in range(12)]) == [
        Refused(1, "InternalError", is_ours=False),
        Refused(3, "InvalidMessageContents", is_ours=True),
        Refused(11, "InternalError", is_ours=False),
    ]
    proxy.heal()
    found = [message.body for _ in range(2) for message in await client.receive(url)]
    assert sorted(found) == sorted(f"message {number}" for number in range(12) if number not in (1, 3, 11))


@pytest.mark.parametrize("answer", [{}, {"Successful": [], "Failed": [{"Id": "7", "Code": "x"}]}])
async def test_an_entry_of_which_the_answer_says_nothing_was_not_done(
    client: Sqs, proxy: FaultProxy, url: str, answer: dict[str, Any]
) -> None:
    proxy.change_answer("SendMessageBatch", lambda _: answer)
    proxy.change_answer("DeleteMessageBatch", lambda _: answer)
    assert await client.send(url, ["one"]) == [Refused(0, "not in the answer", is_ours=False)]
    (message,) = await client.receive(url)
    assert await client.delete(url, [message.receipt]) == [message.receipt]


@pytest.mark.parametrize(
    "message", [{}, {"MessageId": "1", "ReceiptHandle": "r", "Attributes": {"SentTimestamp": "x"}}]
)
async def test_what_answers_otherwise_than_sqs_is_told_as_that(
    client: Sqs, proxy: FaultProxy, url: str, message: dict[str, Any]
) -> None:
    proxy.change_answer("ReceiveMessage", lambda _: {"Messages": [message]})
    with pytest.raises(QueueUnavailable, match=r"what answers for queue '.*' is not SQS"):
        await client.receive(url)


async def test_receipts_that_are_refused_are_told(client: Sqs, proxy: FaultProxy, url: str) -> None:
    await client.send(url, ["one", "two", "three"])
    receipts = [message.receipt for message in await client.receive(url)]
    proxy.refuse("DeleteMessageBatch", {0: "InternalError"}.get)
    assert await client.delete(url, receipts) == receipts[:1]
    proxy.refuse("ChangeMessageVisibilityBatch", {0: "ReceiptHandleIsInvalid"}.get)
    assert await client.release(url, receipts[:1]) == receipts[:1]


async def test_a_send_whose_answer_was_lost_is_sent_again_and_comes_twice(
    client: Sqs, proxy: FaultProxy, url: str
) -> None:
    proxy.lose_answers("SendMessageBatch", times=1)
    assert await client.send(url, ["one"]) == []
    assert [message.body for message in await client.receive(url)] == ["one", "one"]


async def test_a_receive_that_is_cancelled_hides_nothing(
    client: Sqs, proxy: FaultProxy, url: str, sqs: LocalSqs
) -> None:
    proxy.hold("ReceiveMessage")
    polling = asyncio.create_task(client.receive(url, wait=3))
    await until(lambda: proxy.asked["ReceiveMessage"])
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    await client.send(url, ["one"])
    proxy.heal()
    await until(lambda: proxy.carried_out["ReceiveMessage"], "the server has answered the poll that was under way")
    other = Sqs(sqs.url("any"))
    assert [message.body for message in await other.receive(sqs.url(queue_name(url)), wait=5)] == ["one"]
    await other.close()


async def test_a_receive_that_hangs_is_given_up_and_what_it_brings_later_is_given_back(
    client: Sqs, proxy: FaultProxy, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sqs.client.CALL", 0.3)
    await client.send(url, ["one"])
    proxy.hold("ReceiveMessage")
    with pytest.raises(QueueUnavailable, match=r"within 0\.3 s"):
        await client.receive(url)
    monkeypatch.undo()
    proxy.heal()
    await until(lambda: proxy.asked["ChangeMessageVisibilityBatch"] == 1)
    assert [message.body for message in await client.receive(url, wait=10)] == ["one"]


GIVES_UP = """
import asyncio, socket
from holdfast.sqs.connection import ThreadConnection

silent = socket.create_server(("127.0.0.1", 0))
place = {"endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}", "region_name": "eu-west-1"}
place |= {"aws_access_key_id": "local", "aws_secret_access_key": "local"}

async def main():
    connection = ThreadConnection(place, read=600)
    call = asyncio.create_task(connection.call("list_queues", {}))
    kept = await asyncio.to_thread(silent.accept)
    call.cancel()
    await connection.close()

asyncio.run(main())
print("ended")
"""


def test_a_program_ends_though_a_call_in_a_thread_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", GIVES_UP], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ended\n", "")
