"""Looking at a dead-letter queue: all of it is seen, and all of it stays."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import EndpointConnectionError

from holdfast.sqs.client import Sqs
from holdfast.sqs.dead_letters import look
from tests.sqs.local import LocalSqs


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


async def queue(client: Sqs, name: str = "", **attributes: str) -> str:
    return await client.create(f"dead-{uuid4().hex[:8]}{name}", attributes, {})


async def test_57_of_57_messages_are_seen_and_released(client: Sqs) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {number}" for number in range(57)])
    seen = await look(client, url)
    assert (seen.count, len(seen.messages), seen.complete) == (57, 57, True)
    left = await client.attributes(url)
    assert (left.visible, left.in_flight) == (57, 0)
    again = await look(client, url)
    assert {message.id for message in again.messages} == {message.id for message in seen.messages}


async def test_an_empty_queue_costs_one_call_and_is_complete(client: Sqs) -> None:
    seen = await look(client, await queue(client))
    assert (seen.count, seen.messages, seen.complete, seen.only_counted) == (0, (), True, None)


async def test_a_look_stops_at_its_bound_and_says_that_it_is_not_complete(client: Sqs) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {number}" for number in range(40)])
    seen = await look(client, url, most=20)
    assert 20 <= len(seen.messages) < 40
    assert (seen.count, seen.complete) == (40, False)
    assert (await client.attributes(url)).in_flight == 0


async def test_two_who_look_at_once_take_nothing_for_gone_that_the_other_has(client: Sqs) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {number}" for number in range(57)])
    both = await asyncio.gather(look(client, url), look(client, url))
    ids = {message.id for seen in both for message in seen.messages}
    assert len(ids) == 57
    assert [seen.complete for seen in both if len(seen.messages) < 57] == [False] * sum(
        len(seen.messages) < 57 for seen in both
    )
    assert (await client.attributes(url)).in_flight == 0


async def test_a_look_that_is_cancelled_leaves_nothing_hidden(client: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {number}" for number in range(40)])
    receive, began = client.receive, asyncio.Event()

    async def tells(*args: object, **options: object) -> object:
        messages = await receive(*args, **options)  # type: ignore[arg-type]
        began.set()
        await asyncio.sleep(0)
        return messages

    monkeypatch.setattr(client, "receive", tells)
    looking = asyncio.create_task(look(client, url))
    await began.wait()
    for _ in range(2):  # as monitors that end are cancelled by those who run them
        looking.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await looking
    left = await client.attributes(url)
    assert (left.visible, left.in_flight) == (40, 0)


async def test_a_batch_that_is_not_released_does_not_hold_back_the_others(
    client: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {number}" for number in range(40)])
    connection, calls = client._connection, 0
    assert connection is not None
    call = connection.call

    async def fails_once(operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal calls
        calls += operation == "change_message_visibility_batch"
        if operation == "change_message_visibility_batch" and calls == 2:
            raise EndpointConnectionError(endpoint_url="nowhere")
        return await call(operation, arguments)

    monkeypatch.setattr(connection, "call", fails_once)
    assert len((await look(client, url)).messages) == 40
    assert (await client.attributes(url)).in_flight == 0


async def test_a_queue_that_others_read_is_not_taken_for_complete(client: Sqs) -> None:
    url = await queue(client)
    await client.send(url, ["one", "two"])
    await client.receive(url, visibility=60)
    await client.send(url, ["three"])
    seen = await look(client, url)
    assert not seen.complete


async def test_a_queue_with_a_redrive_policy_of_its_own_is_only_counted(client: Sqs) -> None:
    last = (await client.attributes(await queue(client))).arn
    url = await queue(client, RedrivePolicy=json.dumps({"deadLetterTargetArn": last, "maxReceiveCount": "1"}))
    await client.send(url, ["one", "two"])
    for _ in range(3):
        seen = await look(client, url)
        assert (seen.count, seen.messages) == (2, ())
        assert seen.only_counted == "it has a redrive policy of its own, which a look would set off"


async def test_a_fifo_queue_is_only_counted(client: Sqs) -> None:
    seen = await look(client, await queue(client, ".fifo", FifoQueue="true"))
    assert seen.only_counted == "it is FIFO, and a look would block its groups"


async def test_what_was_leased_is_given_back_when_the_look_breaks_off(
    client: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await queue(client)
    await client.send(url, [f"letter {number}" for number in range(12)])
    receive, calls = client.receive, 0

    async def breaks(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("cut off")
        return await receive(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(client, "receive", breaks)
    with pytest.raises(RuntimeError, match="cut off"):
        await look(client, url)
    left = await client.attributes(url)
    assert (left.visible, left.in_flight) == (12, 0)
