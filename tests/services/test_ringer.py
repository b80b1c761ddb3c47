"""The ringer, and workers that wait for its bells."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from holdfast import Holdfast, Settings
from holdfast.core.bell import BellRoutes
from holdfast.events import ForeignMessageHeard, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services import bell_lines, bell_queue
from holdfast.services.bell_lines import BellLines
from holdfast.services.ringer import Ringer
from holdfast.sqs.client import Sqs, queue_name
from tests.services.helpers import Recorder, app_on, until, working
from tests.sqs.local import LocalSqs
from tests.support import Session, calm, claim_one, enqueue, job, register


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


@pytest.fixture
async def ringer(database: str, url: str) -> AsyncIterator[Ringer]:
    ledger = AsyncLedger(database)
    lines = BellLines(ledger, BellRoutes(url))
    yield Ringer(ledger, lines, Sinks([Recorder()]))
    await ledger.close()
    await lines.close()


def reports(database: str) -> Holdfast:
    app = app_on(database)

    @app.job(name="report")
    async def report() -> None:
        pass

    return app


async def test_a_bell_wakes_a_worker_that_would_not_look_for_long(
    database: str, conn: Session, url: str, ringer: Ringer
) -> None:
    async with working(database, reports(database), bells=BellRoutes(url), poll=60.0):
        id = enqueue(conn)
        await until(lambda: conn.execute("SELECT running FROM holdfast.workers").fetchone() is not None)
        await until(lambda: ring(ringer, conn, id))


async def ring(ringer: Ringer, conn: Session, id: object) -> bool:
    await ringer.step()
    return bool(job(conn, id)["status"] == "succeeded")  # type: ignore[arg-type]


async def test_a_rescued_job_s_queue_is_rung(
    database: str, conn: Session, client: Sqs, url: str, ringer: Ringer
) -> None:
    calm(conn)
    dead, _ = register(conn), register(conn)
    enqueue(conn)
    assert await ringer.step() == 1
    claim_one(conn, dead)
    assert await ringer.step() == 0
    conn.execute("SELECT holdfast.mark_workers_gone(ARRAY[%s]::uuid[], 'crashed')", (dead,))
    conn.execute("SELECT holdfast.rescue_stale_jobs()")
    assert await ringer.step() == 1
    assert (await client.attributes(url)).visible == 2


async def test_an_enqueue_rings_by_itself_once_for_many(database: str, client: Sqs, url: str) -> None:
    app = Holdfast(settings=Settings.model_validate({"database_url": database, "sqs_queue_url": url}))

    @app.job(name="report")
    async def report() -> None:
        pass

    await app.enqueue_many(report.prepare() for _ in range(50))
    await app.close()
    assert (await client.attributes(url)).visible == 1


async def test_with_sqs_away_jobs_are_written_and_run_all_the_same(database: str, conn: Session) -> None:
    nowhere = "http://127.0.0.1:1/000000000000/bells"
    app = Holdfast(settings=Settings.model_validate({"database_url": database, "sqs_queue_url": nowhere}))

    @app.job(name="report")
    async def report() -> int:
        return 7

    async with working(database, app, bells=BellRoutes(nowhere)):
        handle = await report.enqueue()
        assert await handle.result(timeout=60) == 7
    await app.close()


async def test_a_queue_with_foreign_messages_is_left_alone_and_jobs_run_all_the_same(
    database: str, conn: Session, client: Sqs, url: str
) -> None:
    await client.send(url, ['{"order": 17}'])
    async with working(database, reports(database), bells=BellRoutes(url)) as worker:
        await until(lambda: worker.recorder.of(ForeignMessageHeard))
        id = enqueue(conn)
        await until(lambda: job(conn, id)["status"] == "succeeded")


async def test_a_foreign_message_opens_an_incident_and_its_queue_is_not_rung_until_a_worker_finds_it_empty(
    database: str, conn: Session, client: Sqs, url: str, ringer: Ringer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell_lines, "OURS_FOR", 0.0)
    monkeypatch.setattr(bell_queue, "PAUSE", 0.05)
    calm(conn)
    await client.send(url, ['{"order": 17}'])
    async with working(database, reports(database), bells=BellRoutes(url)):
        await until(lambda: incidents(conn, url) == ["open"])
    register(conn)
    enqueue(conn)
    assert await ringer.step() == 0
    (message,) = await until(lambda: client.receive(url, wait=1))
    await client.delete(url, [message.receipt])
    async with working(database, reports(database), bells=BellRoutes(url), queues=["another"]):
        await until(lambda: incidents(conn, url) == ["resolved"])
    assert await ringer.step() == 1


async def test_two_workers_that_meet_foreign_messages_open_one_incident(
    database: str, conn: Session, client: Sqs, url: str
) -> None:
    await client.send(url, ['{"order": 17}'])
    app = reports(database)
    bells = BellRoutes(url)
    async with working(database, app, bells=bells) as one, working(database, app, bells=bells) as other:
        await until(lambda: one.recorder.of(ForeignMessageHeard) and other.recorder.of(ForeignMessageHeard))
        await until(lambda: incidents(conn, url) == ["open"])
    assert incidents(conn, url) == ["open"]


def incidents(conn: Session, url: str) -> list[str]:
    rows = conn.execute(
        "SELECT status FROM holdfast.incidents WHERE kind = 'foreign_message' AND key = %s", (queue_name(url),)
    )
    return [str(row["status"]) for row in rows]
