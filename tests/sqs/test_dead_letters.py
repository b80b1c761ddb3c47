"""Looking at a dead-letter queue: all of it is seen, and all of it stays."""

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

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
