"""Ringing over SQS: never more than needed, and never on what fails or is somebody else's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import pytest

from holdfast.core.bell import Bell, BellRoutes
from holdfast.core.breaker import State
from holdfast.errors import QueueError
from holdfast.events import Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.bell_lines import BellLine, BellLines, Rung
from holdfast.services.ringer import Ringer
from holdfast.sqs.bell import SqsBells
from holdfast.sqs.client import Sqs
from holdfast.sqs.policy import ROLES
from tests.services.helpers import until
from tests.sqs.faults import FaultProxy, faulty
from tests.sqs.local import LocalSqs
from tests.support import Session, calm, enqueue, register

MAIL = Bell("mail")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


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
    made = f"lines-{uuid4().hex[:8]}"
    await client.create(made, {}, {"holdfast": "bell"})
    return made


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[AsyncLedger]:
    made = AsyncLedger(database)
    yield made
    await made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[QueueError]:
    return []


Make = Callable[[int], BellLine]


@pytest.fixture
async def make(
    proxy: FaultProxy, name: str, ledger: AsyncLedger, clock: Clock, told: list[QueueError]
) -> AsyncIterator[Make]:
    made: list[BellLine] = []

    def line(most: int) -> BellLine:
        bells = SqsBells(proxy.url(name))
        made.append(BellLine(ledger, bells, most=most, failed=told.append, dice=lambda: 0.5, clock=clock))
        return made[-1]

    yield line
    proxy.heal()
    for each in made:
        await each.close()


async def lying(client: Sqs, sqs: LocalSqs, name: str) -> int:
    return (await client.attributes(sqs.url(name))).visible


async def test_no_more_bells_than_the_bound_lie_there_unheard(
    make: Make, client: Sqs, sqs: LocalSqs, name: str, clock: Clock
) -> None:
    line = make(25)
    for _ in range(12):
        await line.ring([MAIL] * 4)
        clock.now += 2.0
    assert await lying(client, sqs, name) == 25


async def test_who_enqueues_over_and_over_while_nobody_has_room_sends_few_bells_and_few_looks(
    make: Make, client: Sqs, sqs: LocalSqs, name: str, clock: Clock, proxy: FaultProxy
) -> None:
    line = make(20)
    for _ in range(200):
        await line.ring([MAIL])
        clock.now += 0.05
    assert await lying(client, sqs, name) == 20
    assert proxy.asked["SendMessageBatch"] == 20
    assert proxy.asked["GetQueueAttributes"] <= 12, "once a second in ten"
    asked = {f"sqs:{operation.removesuffix('Batch')}" for operation in proxy.asked}
    assert asked == {action for grant in ROLES["api"] for action in grant.actions}, "what its policy allows"


async def test_bells_that_were_heard_make_room_for_others(
    make: Make, client: Sqs, sqs: LocalSqs, name: str, clock: Clock
) -> None:
    line = make(20)
    await line.ring([MAIL] * 30)
    url = sqs.url(name)
    while messages := await client.receive(url):
        await client.delete(url, [message.receipt for message in messages])
    assert (await line.ring([MAIL])).sent == 0, "what was seen last is believed for a moment"
    clock.now += 2.0
    assert (await line.ring([MAIL])).sent == 1


async def test_a_line_that_was_found_full_is_looked_at_again_and_rung_when_its_bells_were_heard(
    make: Make, client: Sqs, sqs: LocalSqs, name: str, clock: Clock
) -> None:
    line = make(20)
    await line.ring([MAIL] * 20)
    clock.now += 2.0
    assert (await line.ring([MAIL])).sent == 0, "a look found it full"
    url = sqs.url(name)
    while messages := await client.receive(url):
        await client.delete(url, [message.receipt for message in messages])
    clock.now += 2.0
    assert (await line.ring([MAIL])).sent == 1


async def test_who_may_only_send_rings_all_the_same_and_is_not_refused_again_and_again(
    make: Make, proxy: FaultProxy, clock: Clock
) -> None:
    proxy.fail("GetQueueAttributes", "AccessDenied")
    line, sent = make(20), 0
    for _ in range(40):
        sent += (await line.ring([MAIL])).sent
        clock.now += 0.25
    assert sent == 40
    assert proxy.asked["GetQueueAttributes"] == 1


async def test_a_line_that_fails_is_left_alone_and_tried_once_when_its_pause_is_over(
    make: Make, proxy: FaultProxy, clock: Clock, told: list[QueueError]
) -> None:
    line = make(1000)
    proxy.fail("SendMessageBatch", "AccessDenied")
    assert await line.ring([MAIL]) == Rung(0, (MAIL,))
    calls = proxy.asked.total()
    assert await line.ring([MAIL]) == Rung(0, (MAIL,))
    assert (proxy.asked.total(), line.state(), len(told)) == (calls, State.OPEN, 1)
    clock.now += 1.0
    assert line.state() is State.TRIAL
    await line.ring([MAIL])
    clock.now += 1.9
    assert line.state() is State.OPEN, "the second pause is longer"
    proxy.heal()
    clock.now += 0.1
    assert (await line.ring([MAIL])).sent == 1
    assert line.state() is State.CLOSED


async def test_an_sqs_that_hangs_is_given_up_soon(
    make: Make, proxy: FaultProxy, told: list[QueueError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.services.bell_lines.DEADLINE", 0.2)
    line = make(1000)
    proxy.hold("SendMessageBatch")
    assert await line.ring([MAIL]) == Rung(0, (MAIL,))
    assert "within 0.2 s" in str(told[0])
    assert line.state() is State.OPEN


async def test_a_bell_that_is_refused_alone_is_left_and_the_others_are_sent(
    make: Make, proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str
) -> None:
    line = make(1000)
    proxy.refuse("SendMessageBatch", {1: "InternalError"}.get)
    assert await line.ring([Bell("a"), Bell("b"), Bell("c")]) == Rung(2, (Bell("b"),))
    assert line.state() is State.CLOSED
    assert await lying(client, sqs, name) == 2


async def test_a_queue_that_refuses_every_bell_is_left_alone(
    make: Make, proxy: FaultProxy, told: list[QueueError]
) -> None:
    line = make(1000)
    proxy.refuse("SendMessageBatch", lambda _: "InvalidMessageContents")
    assert await line.ring([MAIL]) == Rung(0, (MAIL,))
    assert line.state() is State.OPEN
    assert "it refuses each" in str(told[0])


async def test_one_line_that_fails_does_not_keep_others_from_ringing(
    ledger: AsyncLedger, proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str
) -> None:
    lines = BellLines(ledger, BellRoutes(proxy.url("not-there"), {"mail": sqs.url(name)}))
    assert await lines.ring([MAIL, Bell("reports")]) == Rung(1, (Bell("reports"),))
    assert lines.may_ring()
    assert await lying(client, sqs, name) == 1
    await lines.close()


async def test_one_line_that_hangs_makes_no_bell_of_another_late(
    ledger: AsyncLedger,
    proxy: FaultProxy,
    client: Sqs,
    sqs: LocalSqs,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.services.bell_lines.DEADLINE", 120)
    proxy.hold("SendMessageBatch")
    last = sqs.url(name).replace("127.0.0.1", "localhost")  # behind the other in any order by URL
    lines = BellLines(ledger, BellRoutes(proxy.url(name), {"mail": last}))
    ringing = asyncio.create_task(lines.ring([Bell("reports"), MAIL]))
    await until(lambda: proxy.asked["SendMessageBatch"])
    await until(lambda: lying(client, sqs, name))
    assert not ringing.done()
    proxy.heal()
    assert (await ringing).sent == 2
    await lines.close()


async def test_what_could_not_be_rung_is_rung_when_sqs_answers_again(
    conn: Session, ledger: AsyncLedger, proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str, clock: Clock
) -> None:
    calm(conn)
    register(conn)
    enqueue(conn)
    lines = BellLines(ledger, BellRoutes(proxy.url(name)), dice=lambda: 0.5, clock=clock)
    ringer = Ringer(ledger, lines, Sinks())
    proxy.fail("SendMessageBatch", "AccessDenied")
    assert await ringer.step() == 0
    proxy.heal()
    assert await ringer.step() == 0, "its line is left alone"
    clock.now += 1.0
    assert await ringer.step() == 1, "though the ledger has it as rung"
    assert await lying(client, sqs, name) == 1
    assert await ringer.step() == 0
    await lines.close()


async def test_with_sqs_away_for_long_its_return_brings_a_bounded_number_of_bells(
    conn: Session, ledger: AsyncLedger, proxy: FaultProxy, client: Sqs, sqs: LocalSqs, name: str, clock: Clock
) -> None:
    calm(conn)
    for _ in range(3):
        register(conn)
    for _ in range(50):
        enqueue(conn)
    lines = BellLines(ledger, BellRoutes(proxy.url(name)), dice=lambda: 0.5, clock=clock)
    ringer = Ringer(ledger, lines, Sinks())
    proxy.fail("SendMessageBatch", "AccessDenied")
    for _ in range(20):
        await ringer.step()
        conn.execute("UPDATE holdfast.queues SET rung_at = rung_at - interval '1 minute'")
        clock.now += 60.0
    proxy.heal()
    assert await until(ringer.step) == 3, "one for each worker with room, however long it was away"
    await lines.close()
