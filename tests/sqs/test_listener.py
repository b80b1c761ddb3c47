"""The listener on a bad day: it wakes its worker whatever SQS does, and takes nothing that others should hear."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from holdfast.core.bell import Bell
from holdfast.core.retry import RetryPolicy
from holdfast.errors import QueueError
from holdfast.sqs.bell import SqsBells, SqsListener
from holdfast.sqs.client import Sqs
from tests.services.helpers import until
from tests.sqs.faults import FaultProxy, faulty
from tests.sqs.local import LocalSqs


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.WAIT", 1)
    monkeypatch.setattr("holdfast.sqs.bell.NO_ROOM", 0.01)
    monkeypatch.setattr("holdfast.core.breaker.PAUSES", RetryPolicy(base=0.1, cap=0.2))


@pytest.fixture
async def proxy(sqs: LocalSqs) -> AsyncIterator[FaultProxy]:
    async with faulty(sqs.endpoint) as made:
        yield made


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    """Past the proxy."""
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


@pytest.fixture
async def name(client: Sqs) -> str:
    made = f"listener-{uuid4().hex[:8]}"
    await client.create(made, {"VisibilityTimeout": "30"}, {"holdfast": "bell"})
    return made


@dataclass
class Ear:
    rings: int = 0
    strangers: int = 0
    has_room: bool = True
    failures: list[QueueError] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    looks: int = 0
    stop: Callable[[], None] = lambda: None

    def look(self) -> bool:
        self.looks += 1
        return self.has_room


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Ear]:
    ear = Ear()

    def rung() -> None:
        ear.rings += 1

    def foreign() -> None:
        ear.strangers += 1

    listener = SqsListener(
        url, ["mail"], rung=rung, has_room=ear.look, failed=ear.failures.append, foreign=foreign,
        heard=ear.traces.extend, dice=lambda: 0.0,
    )  # fmt: skip
    ear.stop = listener.stop
    task = asyncio.create_task(listener.listen())
    try:
        yield ear
    finally:
        listener.stop()
        await asyncio.wait_for(task, 30)


async def ring(sqs: LocalSqs, name: str, *bells: Bell) -> None:
    sender = SqsBells(sqs.url(name))
    await sender.ring(bells or [Bell("mail")])
    await sender.close()


async def test_a_bell_that_comes_after_the_stop_is_left_to_others(
    proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str
) -> None:
    async with listening(proxy.url(name)) as ear:
        await until(lambda: proxy.asked["ReceiveMessage"])
        ear.stop()
        await ring(sqs, name)
    assert ear.rings == 0
    assert len(await client.receive(sqs.url(name))) == 1


async def test_a_bell_that_comes_when_there_is_no_room_any_more_is_left_to_others(
    proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str
) -> None:
    async with listening(proxy.url(name)) as ear:
        await until(lambda: proxy.asked["ReceiveMessage"])
        ear.has_room = False
        await ring(sqs, name)
        assert len(await client.receive(sqs.url(name), wait=10)) == 1
    assert ear.rings == 0


async def test_without_room_nothing_is_received(proxy: FaultProxy, name: str) -> None:
    async with listening(proxy.url(name)) as ear:
        await until(lambda: proxy.asked["ReceiveMessage"])
        ear.has_room = False
        asked, looks = proxy.asked["ReceiveMessage"], ear.looks
        await until(lambda: ear.looks > looks + 20)
        assert proxy.asked["ReceiveMessage"] <= asked + 1


async def test_what_answers_at_once_with_nothing_is_not_asked_over_and_over(
    proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.NO_ROOM", 3600)
    proxy.change_request("ReceiveMessage", lambda asked: {**asked, "WaitTimeSeconds": 0})
    async with listening(proxy.url(name)):
        await until(lambda: proxy.carried_out["ReceiveMessage"])
        for _ in range(20):
            await client.receive(sqs.url(name))
        assert proxy.asked["ReceiveMessage"] <= 3  # one, but for a call that a busy machine made again


@pytest.mark.parametrize("code", ["AccessDenied", "ServiceUnavailable"])
async def test_a_bell_that_cannot_be_deleted_wakes_its_worker_all_the_same(
    proxy: FaultProxy, sqs: LocalSqs, name: str, code: str
) -> None:
    proxy.fail("DeleteMessageBatch", code)
    async with listening(proxy.url(name)) as ear:
        await ring(sqs, name)
        await until(lambda: ear.rings == 1)


async def test_a_worker_is_woken_before_its_bell_is_deleted(
    proxy: FaultProxy, sqs: LocalSqs, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("CALL", "READ"):
        monkeypatch.setattr(f"holdfast.sqs.client.{bound}", 3600)
    proxy.hold("DeleteMessageBatch")
    async with listening(proxy.url(name)) as ear:
        await ring(sqs, name)
        await until(lambda: ear.rings == 1, seconds=20)
        assert proxy.carried_out["DeleteMessageBatch"] == 0
        proxy.heal()
        await until(lambda: proxy.carried_out["DeleteMessageBatch"])


async def test_receipts_that_sqs_refuses_are_tried_once_more_and_then_told(
    proxy: FaultProxy, sqs: LocalSqs, name: str
) -> None:
    proxy.refuse("DeleteMessageBatch", lambda _: "ReceiptHandleIsInvalid")
    async with listening(proxy.url(name)) as ear:
        await ring(sqs, name)
        await until(lambda: ear.failures)
    assert proxy.asked["DeleteMessageBatch"] == 2
    assert f"SQS did not delete 1 bells of '{name}'" in str(ear.failures[0])
    assert ear.rings == 1


async def test_a_stranger_stops_it_also_when_it_cannot_be_given_back(
    proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str
) -> None:
    proxy.fail("ChangeMessageVisibilityBatch", "AccessDenied")
    await client.send(sqs.url(name), ['{"order": 17}'])
    async with listening(proxy.url(name)) as ear:
        await until(lambda: ear.strangers == 1)
    assert proxy.asked["ReceiveMessage"] == 1


@pytest.mark.parametrize("code", ["OverLimit", "ExpiredToken"])
async def test_a_receive_that_fails_is_followed_by_a_pause_and_told_from_the_second_time_on(
    proxy: FaultProxy, sqs: LocalSqs, name: str, code: str
) -> None:
    proxy.fail("ReceiveMessage", code)
    async with listening(proxy.url(name)) as ear:
        await until(lambda: ear.failures)
        asked = proxy.asked["ReceiveMessage"]
        assert asked <= 6, "two receives, three attempts each"
        proxy.heal()
        await ring(sqs, name)
        await until(lambda: ear.rings == 1)


async def test_a_bell_tells_the_trace_that_rang_it(proxy: FaultProxy, sqs: LocalSqs, name: str) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with listening(proxy.url(name)) as ear:
        await ring(sqs, name, Bell("mail", trace), Bell("mail"))
        await until(lambda: ear.traces)
    assert ear.traces == [trace]


async def test_the_header_of_aws_s_own_tracing_is_passed_through(
    proxy: FaultProxy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    monkeypatch.setenv("_X_AMZN_TRACE_ID", header)
    sender = SqsBells(proxy.url(name))
    await sender.ring([Bell("mail")])
    await sender.close()
    assert proxy.sent[0]["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"] == header
    assert "DelaySeconds" not in proxy.sent[0]
