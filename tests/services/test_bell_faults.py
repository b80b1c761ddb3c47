"""Jobs over SQS on a bad day: each ends, and each runs once, whatever becomes of the bells."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest

from holdfast import Holdfast, Settings
from holdfast.core.bell import Bell, BellRoutes
from holdfast.events import ForeignMessageHeard, LedgerLost, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import pause_queues
from holdfast.services.bell_lines import BellLines
from holdfast.services.ringer import Ringer
from holdfast.sqs.bell import SqsBells
from holdfast.sqs.client import Sqs
from tests.services.helpers import Running, app_on, relay_to, until, working
from tests.sqs.faults import FaultProxy, faulty
from tests.sqs.local import LocalSqs
from tests.support import Session

JOBS = 30


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.WAIT", 1)


@pytest.fixture
async def proxy(sqs: LocalSqs) -> AsyncIterator[FaultProxy]:
    async with faulty(sqs.endpoint) as made:
        yield made


@pytest.fixture
async def name(sqs: LocalSqs) -> AsyncIterator[str]:
    made, client = f"jobs-{uuid4().hex[:8]}", Sqs(sqs.url("any"))
    await client.create(made, {"VisibilityTimeout": "1"}, {"holdfast": "bell"})
    yield made
    await client.close()


def twice_and_only_some(proxy: FaultProxy) -> None:
    proxy.multiply_messages(2)
    proxy.show_some(0.5)


def expired(proxy: FaultProxy) -> None:
    proxy.fail("SendMessageBatch", "ExpiredToken")
    proxy.fail("ReceiveMessage", "ExpiredToken")


FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "bells are throttled": lambda proxy: proxy.fail("SendMessageBatch", "ThrottlingException"),
    "receives are throttled": lambda proxy: proxy.fail("ReceiveMessage", "RequestThrottled"),
    "SQS has an error of its own": lambda proxy: proxy.fail("SendMessageBatch", "InternalFailure"),
    "too many are in flight": lambda proxy: proxy.fail("ReceiveMessage", "OverLimit"),
    "answers are lost after the send was done": lambda proxy: proxy.lose_answers("SendMessageBatch", times=5),
    "answers are lost after the delete was done": lambda proxy: proxy.lose_answers("DeleteMessageBatch", times=5),
    "some of a batch are not sent": lambda proxy: proxy.refuse("SendMessageBatch", {0: "InternalError"}.get),
    "bells are not deleted": lambda proxy: proxy.refuse("DeleteMessageBatch", lambda _: "ReceiptHandleIsInvalid"),
    "bells are lost": lambda proxy: proxy.lose_messages(),
    "each bell comes five times": lambda proxy: proxy.multiply_messages(5),
    "bells come in any order, twice, and late": twice_and_only_some,
    "bells come under new ids": lambda proxy: proxy.rename_messages(),
    "the credentials have expired": expired,
}


def left(conn: Session) -> int:
    found = conn.execute("SELECT count(*)::int AS n FROM holdfast.jobs WHERE status <> 'succeeded'").fetchone()
    assert found is not None
    return int(found["n"])


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_job_runs_once_while(fault: str, database: str, conn: Session, proxy: FaultProxy, name: str) -> None:
    url = proxy.url(name)
    runs = Counter[int]()
    app = Holdfast(settings=Settings.model_validate({"database_url": database, "sqs_queue_url": url}))

    @app.job(name="note")
    async def note(number: int) -> None:
        runs[number] += 1

    FAULTS[fault](proxy)
    ledger = AsyncLedger(database)
    lines = BellLines(ledger, BellRoutes(url))
    ringing = asyncio.create_task(Ringer(ledger, lines, Sinks(), every=0.05).run())
    try:
        async with working(database, app, bells=BellRoutes(url)):
            for number in range(JOBS):
                await note.enqueue(number)
            await until(lambda: left(conn) == 0)
            await until(lambda: proxy.asked["ReceiveMessage"] and proxy.asked["SendMessageBatch"])
            proxy.heal()
    finally:
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)
        await app.close()
        await lines.close()
        await ledger.close()
    assert runs == Counter(range(JOBS))
    rows = conn.execute("SELECT max(lease) AS lease, sum(rescues)::int AS rescues FROM holdfast.jobs").fetchone()
    assert rows == {"lease": 1, "rescues": 0}


async def test_a_queue_that_is_purged_or_deleted_loses_no_job_and_delays_none_beyond_the_poll(
    database: str, conn: Session, proxy: FaultProxy, sqs: LocalSqs, name: str
) -> None:
    url = proxy.url(name)
    app = Holdfast(settings=Settings.model_validate({"database_url": database, "sqs_queue_url": url}))

    @app.job(name="note")
    async def note(number: int) -> None:
        pass

    admin = Sqs(sqs.url("any"))
    async with working(database, app, bells=BellRoutes(url), poll=0.5):
        for number in range(10):
            await note.enqueue(number)
            if number == 5:
                await admin._carry_out(name, 10, "delete_queue", {"QueueUrl": sqs.url(name)})
        await until(lambda: left(conn) == 0)
    waited = conn.execute(
        "SELECT max(extract(epoch FROM claimed_at - created_at))::float8 AS longest FROM holdfast.jobs"
    ).fetchone()
    assert waited is not None
    assert waited["longest"] < 0.5 + 2.0, "the poll interval, and slack for a busy machine"
    await app.close()
    await admin.close()


async def test_bells_for_unknown_kinds_paused_queues_and_finished_jobs_do_no_harm(
    database: str, conn: Session, proxy: FaultProxy, name: str
) -> None:
    url, app = proxy.url(name), Holdfast(settings=Settings.model_validate({"database_url": database}))

    @app.job(name="note")
    async def note() -> None:
        pass

    ledger = AsyncLedger(database)
    await ledger.call(pause_queues(["default"], paused=True))
    paused = await note.enqueue()
    conn.execute("SELECT holdfast.enqueue(gen_random_uuid(), 'default', 'nobody knows it', '{}')")
    bells = SqsBells(url)
    async with working(database, app, bells=BellRoutes(url)) as worker:
        await bells.ring([Bell("default"), Bell("no such queue"), Bell("default")])
        await until(lambda: proxy.asked["DeleteMessageBatch"])
        assert (await paused.status()) == "queued"
        await ledger.call(pause_queues(["default"], paused=False))
        await paused.result(timeout=30)
        deleted = proxy.asked["DeleteMessageBatch"]
        await bells.ring([Bell("default")])  # for a job that has ended
        await until(lambda: proxy.asked["DeleteMessageBatch"] > deleted)
        assert not worker.task.done()
    counts = {row["kind"]: row["status"] for row in conn.execute("SELECT kind, status FROM holdfast.jobs")}
    assert counts == {"note": "succeeded", "nobody knows it": "queued"}
    await bells.close()
    await ledger.close()
    await app.close()


def claims_lost(worker: Running) -> int:
    return sum(event.what == "claim" for event in worker.recorder.of(LedgerLost))


async def test_with_postgres_down_no_message_is_received(database: str, proxy: FaultProxy, name: str) -> None:
    async with relay_to(database) as relay:
        app = Holdfast(settings=Settings.model_validate({"database_url": relay.dsn}))

        @app.job(name="note")
        async def note() -> None:
            pass

        async with working(relay.dsn, app, bells=BellRoutes(proxy.url(name))) as worker:
            await until(lambda: proxy.asked["ReceiveMessage"])
            await relay.down()
            await until(lambda: claims_lost(worker))
            asked, lost = proxy.asked["ReceiveMessage"], claims_lost(worker)
            await until(lambda: claims_lost(worker) >= lost + 4, "seconds, in which polls of 1 s would be several")
            assert proxy.asked["ReceiveMessage"] <= asked + 1, "one was under way"
            await relay.up()
            await until(lambda: proxy.asked["ReceiveMessage"] > asked + 1)


async def test_somebody_else_s_message_is_received_once_however_many_workers_listen(
    database: str, conn: Session, proxy: FaultProxy, name: str, sqs: LocalSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.HIDDEN", 600)
    monkeypatch.setattr("holdfast.services.bell_queue.BELIEVED", 0)
    bells, app, seen = BellRoutes(proxy.url(name)), app_on(database), Counter[str]()

    def note(answer: dict[str, Any]) -> dict[str, Any]:
        seen.update(message["Body"] for message in answer.get("Messages", []))
        return answer

    proxy.change_answer("ReceiveMessage", note)
    team = Sqs(sqs.url(name))
    await team.send(sqs.url(name), ["an order"])
    async with working(database, app, bells=bells) as one, working(database, app, bells=bells) as other:
        await until(lambda: one.recorder.of(ForeignMessageHeard) and other.recorder.of(ForeignMessageHeard))
    received = proxy.asked["ReceiveMessage"]
    async with working(database, app, bells=bells) as later:
        await until(lambda: later.recorder.of(ForeignMessageHeard))
    assert seen == {"an order": 1}
    assert proxy.asked["ReceiveMessage"] == received, "who begins while it lies there takes nothing"
    (incident,) = conn.execute("SELECT status FROM holdfast.incidents WHERE kind = 'foreign_message'").fetchall()
    assert incident["status"] == "open"
    await team.close()
    await app.close()


async def test_an_idle_fleet_costs_long_polls_and_nothing_else(
    database: str, proxy: FaultProxy, name: str, conn: Session
) -> None:
    url, app = proxy.url(name), Holdfast(settings=Settings.model_validate({"database_url": database}))
    ledger = AsyncLedger(database)
    lines = BellLines(ledger, BellRoutes(url))
    ringer = Ringer(ledger, lines, Sinks())
    async with working(database, app, bells=BellRoutes(url)), working(database, app, bells=BellRoutes(url)):
        await until(lambda: proxy.asked["ReceiveMessage"] >= 6)
        for _ in range(5):
            assert await ringer.step() == 0
    assert proxy.asked.keys() == {"ReceiveMessage"}
    await lines.close()
    await ledger.close()
