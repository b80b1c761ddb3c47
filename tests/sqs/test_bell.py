"""The bell over SQS: heard once, harmless whatever it is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from holdfast.core.bell import Bell
from holdfast.errors import QueueError
from holdfast.sqs.bell import SqsBells, SqsListener
from holdfast.sqs.client import Sqs
from tests.services.helpers import until
from tests.sqs.local import LocalSqs


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.WAIT", 1)
    monkeypatch.setattr("holdfast.sqs.bell.HIDDEN", 0)


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


@pytest.fixture
async def url(client: Sqs) -> str:
    return await client.create(f"bells-{uuid4().hex[:8]}", {}, {"holdfast": "bell"})


@dataclass
class Heard:
    rings: int = 0
    strangers: int = 0
    errors: list[QueueError] = field(default_factory=list)
    has_room: bool = True


@asynccontextmanager
async def listening(url: str, *, has_room: bool = True) -> AsyncIterator[Heard]:
    heard = Heard(has_room=has_room)

    def count(name: str) -> Callable[[], None]:
        return lambda: setattr(heard, name, getattr(heard, name) + 1)

    listener = SqsListener(
        url,
        ["mail"],
        rung=count("rings"),
        has_room=lambda: heard.has_room,
        failed=heard.errors.append,
        foreign=count("strangers"),
    )
    task = asyncio.create_task(listener.listen())
    try:
        yield heard
    finally:
        listener.stop()
        await asyncio.wait_for(task, 30)


async def ring(url: str, *queues: str) -> None:
    bells = SqsBells(url)
    assert await bells.ring([Bell(queue) for queue in queues]) == []
    await bells.close()


async def gone(client: Sqs, url: str) -> bool:
    left = await client.attributes(url)
    return (left.visible, left.in_flight) == (0, 0)


async def test_a_bell_is_heard_and_deleted(client: Sqs, url: str) -> None:
    async with listening(url) as heard:
        await ring(url, "mail")
        await until(lambda: heard.rings == 1)
        await until(lambda: gone(client, url))


async def test_bells_for_other_queues_are_taken_away_and_wake_nobody(client: Sqs, url: str) -> None:
    async with listening(url) as heard:
        await ring(url, "other", "other")
        await until(lambda: gone(client, url))
    assert heard.rings == 0


async def test_without_room_no_bell_is_taken(client: Sqs, url: str) -> None:
    await ring(url, "mail")
    async with listening(url, has_room=False) as heard:
        assert (await client.attributes(url)).visible == 1
        assert heard.rings == 0
        heard.has_room = True
        await until(lambda: heard.rings == 1)


async def test_at_the_first_foreign_message_it_stops_for_good_and_leaves_the_message(client: Sqs, url: str) -> None:
    await client.send(url, ['{"order": 17}'])
    async with listening(url) as heard:
        await until(lambda: heard.strangers == 1)
        await ring(url, "mail")
    assert heard.rings == 0
    bodies = {message.body for message in await client.receive(url, wait=2)}
    bodies |= {message.body for message in await client.receive(url, wait=2)}
    assert '{"order": 17}' in bodies


async def test_an_unforeseen_failure_is_logged_and_listening_goes_on(
    client: Sqs, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_once() -> None:
        heard.append(1)
        if len(heard) == 1:
            raise RuntimeError("a bug")

    heard: list[int] = []
    listener = SqsListener(
        url, ["mail"], rung=fail_once, has_room=lambda: True, failed=lambda _: None, foreign=lambda: None
    )
    task = asyncio.create_task(listener.listen())
    await ring(url, "mail")
    await until(lambda: heard)
    await ring(url, "mail")
    await until(lambda: len(heard) == 2)
    listener.stop()
    await asyncio.wait_for(task, 30)
    assert "listening for bells failed in an unforeseen way" in caplog.text


async def test_a_server_that_is_away_is_told_and_listened_to_again(sqs: LocalSqs) -> None:
    async with listening(sqs.url("not-made-yet")) as heard:
        await until(lambda: heard.errors)
        client = Sqs(sqs.url("any"))
        url = await client.create("not-made-yet", {}, {})
        await ring(url, "mail")
        await until(lambda: heard.rings == 1)
        await client.close()
