"""What the seam to SQS promises, by AWS's rules, over both clients and several servers.

Each server gets some of AWS's rules wrong: those are named in `WRONG`, and a test fails when that changes.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from holdfast.cli.local_sqs import ACCOUNT
from holdfast.errors import QueueNotFound, QueueUnavailable
from holdfast.sqs.bell import SqsListener
from holdfast.sqs.client import NewMessage, Refused, Sqs
from holdfast.sqs.connection import AioConnection, Connect, ThreadConnection
from tests.services.helpers import until
from tests.sqs.local import LocalSqs
from tests.sqs.servers import LOCALEMU, MOTO, running

pytestmark = pytest.mark.timeout(600)  # a server may have to be installed first

CLIENTS: dict[str, Connect] = {"aiobotocore": AioConnection, "threads": ThreadConnection}
COMBINATIONS = [
    "ministack by aiobotocore",
    "ministack by threads",
    "moto by aiobotocore",
    pytest.param("moto by threads", marks=pytest.mark.full),
    pytest.param("localemu by aiobotocore", marks=pytest.mark.full),
    pytest.param("localemu by threads", marks=pytest.mark.full),
]
#: Server and test: what it does instead of what AWS does.
WRONG = {
    ("moto", "test_characters_that_sqs_does_not_take_are_refused_alone"): "it takes every character",
    ("ministack", "test_what_is_not_in_flight_cannot_be_released"): "it says that it was done",
    ("moto", "test_what_is_not_in_flight_cannot_be_released"): "it says that it was done",
    ("localemu", "test_what_is_not_in_flight_cannot_be_released"): "it says that it was done",
    ("localemu", "test_characters_that_sqs_does_not_take_are_refused_alone"): "it does not call it the sender's fault",
}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with running(MOTO) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def ministack(sqs: LocalSqs) -> str:
    return sqs.endpoint


@pytest.fixture(scope="module")
def localemu() -> Iterator[str]:
    with running(LOCALEMU) as endpoint:
        yield endpoint


@pytest.fixture(params=COMBINATIONS)
def combination(request: pytest.FixtureRequest) -> tuple[str, str]:
    server, client = request.param.split(" by ")
    wrong = WRONG.get((server, request.node.originalname))
    if wrong is not None:
        request.node.add_marker(pytest.mark.xfail(reason=f"{server}: {wrong}", raises=AssertionError))
    return server, client


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, combination: tuple[str, str]) -> str:
    return str(request.getfixturevalue(combination[0]))


@pytest.fixture
async def client(endpoint: str, combination: tuple[str, str]) -> AsyncIterator[Sqs]:
    made = Sqs(endpoint, wait=5, connect=CLIENTS[combination[1]])
    yield made
    await made.close()


@pytest.fixture
async def url(client: Sqs) -> str:
    return await client.create(f"contract-{uuid4().hex[:8]}", {"VisibilityTimeout": "30"}, {"team": "orders"})


async def test_more_than_a_batch_is_sent_received_and_deleted(client: Sqs, url: str) -> None:
    assert await client.send(url, [f"message {number}" for number in range(12)]) == []
    seen: dict[str, str] = {}
    while messages := await client.receive(url):
        seen.update({message.body: message.receipt for message in messages})
    assert set(seen) == {f"message {number}" for number in range(12)}
    assert await client.delete(url, list(seen.values())) == []
    left = await client.attributes(url)
    assert (left.visible, left.in_flight) == (0, 0)


async def test_what_was_received_is_hidden_and_counted_and_comes_back_when_its_time_is_over(
    client: Sqs, url: str
) -> None:
    await client.send(url, ["one"])
    (first,) = await client.receive(url, visibility=1)
    assert await client.receive(url) == []
    assert (await client.attributes(url)).in_flight == 1
    (again,) = await client.receive(url, wait=5)
    assert (again.id, first.received, again.received) == (first.id, 1, 2)


async def test_what_is_released_comes_back_at_once(client: Sqs, url: str) -> None:
    await client.send(url, ["one"])
    (first,) = await client.receive(url)
    assert await client.release(url, [first.receipt]) == []
    (again,) = await client.receive(url)
    assert again.id == first.id


async def test_what_is_not_in_flight_cannot_be_released(client: Sqs, url: str) -> None:
    await client.send(url, ["one"])
    (message,) = await client.receive(url)
    await client.release(url, [message.receipt])
    assert await client.release(url, [message.receipt]) == [message.receipt]


async def test_a_long_poll_is_woken_by_a_message(client: Sqs, url: str) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    polling = asyncio.create_task(client.receive(url, wait=5))
    await client.send(url, ["one"])
    assert [message.body for message in await polling] == ["one"]
    assert clock() - began < 5


async def test_attributes_travel_with_a_message(client: Sqs, url: str) -> None:
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    await client.send(url, [NewMessage("one", {"traceparent": "00-1-2-01"}, trace), "two"])
    found = {message.body: message.attributes for message in await client.receive(url, wait=1)}
    assert found == {"one": {"traceparent": "00-1-2-01"}, "two": {}}


async def test_a_message_of_300_kib_is_taken(client: Sqs, url: str) -> None:
    assert await client.send(url, ["x" * 300 * 1024]) == []
    assert [len(message.body) for message in await client.receive(url)] == [300 * 1024]


async def test_characters_that_sqs_does_not_take_are_refused_alone(client: Sqs, url: str) -> None:
    assert await client.send(url, ["one", "a\x0bb", "two"]) == [Refused(1, "InvalidMessageContents", is_ours=True)]
    assert sorted(message.body for message in await client.receive(url)) == ["one", "two"]


async def test_after_too_many_receives_a_message_is_in_the_dead_letter_queue_as_it_was(client: Sqs) -> None:
    dead = await client.create(f"dead-{uuid4().hex[:8]}", {}, {})
    policy = json.dumps({"deadLetterTargetArn": (await client.attributes(dead)).arn, "maxReceiveCount": "1"})
    url = await client.create(f"source-{uuid4().hex[:8]}", {"RedrivePolicy": policy}, {})
    await client.send(url, ["one"])
    (message,) = await client.receive(url)
    await client.release(url, [message.receipt])
    assert await client.receive(url) == []
    (letter,) = await client.receive(dead, wait=2)
    assert (letter.id, letter.body) == (message.id, "one")


async def test_a_queue_tells_what_it_is(client: Sqs, url: str) -> None:
    assert await client.tags(url) == {"team": "orders"}
    found = await client.attributes(url)
    assert (found.visibility_timeout, found.retention, found.is_fifo, found.visible) == (30, 4 * 86400, False, 0)
    assert await client.url_named(url.rpartition("/")[2]) == url
    assert await client.url_of(found.arn) == url
    await client.tag(url, {"holdfast": "bell"})
    await client.set_attributes(url, {"VisibilityTimeout": "7"})
    assert await client.tags(url) == {"team": "orders", "holdfast": "bell"}
    assert (await client.attributes(url)).visibility_timeout == 7


async def test_a_queue_that_is_not_there_is_told_by_its_name(client: Sqs, endpoint: str) -> None:
    for call in (client.attributes, client.receive, client.tags):
        with pytest.raises(QueueNotFound, match="there is no queue 'nothing'"):
            await call(f"{endpoint}/{ACCOUNT}/nothing")


async def test_a_receive_that_is_cancelled_hides_nothing(client: Sqs, url: str) -> None:
    await client.attributes(url)  # connected
    polling = asyncio.create_task(client.receive(url, wait=2))
    await asyncio.sleep(0)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    await client.send(url, ["one"])
    assert [message.body for message in await client.receive(url, wait=5)] == ["one"]


async def test_a_server_that_is_away_is_told_within_seconds(client: Sqs) -> None:
    away = Sqs("http://127.0.0.1:1/1/q", connect=client._connect)
    with pytest.raises(QueueUnavailable, match="SQS does not answer for queue 'q'"):
        await away.attributes("http://127.0.0.1:1/1/q")
    await away.close()


async def test_a_listener_hears_bells_over_it(client: Sqs, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.WAIT", 1)
    monkeypatch.setattr("holdfast.sqs.client.any_connection", client._connect)
    heard: list[int] = []
    listener = SqsListener(
        url, ["mail"], rung=lambda: heard.append(1), has_room=lambda: True, failed=lambda _: None, foreign=lambda: None
    )
    listening = asyncio.create_task(listener.listen())
    await client.send(url, ['{"holdfast": "bell", "queue": "mail"}'])
    await until(lambda: heard)
    listener.stop()
    await asyncio.wait_for(listening, 30)
    left = await client.attributes(url)
    assert (left.visible, left.in_flight) == (0, 0)
