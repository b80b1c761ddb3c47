"""What every bell is worth, the ledger's own and those over SQS: it wakes, and may be lost or come five times."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from holdfast import Holdfast
from holdfast.core.bell import Bell, BellRoutes
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.sqs.bell import SqsBells
from holdfast.sqs.client import Sqs
from tests.services.helpers import app_on, until, working
from tests.sqs.local import LocalSqs
from tests.sqs.servers import MOTO, running
from tests.support import Session, job

pytestmark = pytest.mark.timeout(600)  # a server may have to be installed first

KINDS = ["the ledger's", "SQS on ministack", "SQS on moto"]


@dataclass
class Rope:
    """How to ring, and how workers are told where to listen."""

    ring: Callable[[], Awaitable[object]]
    routes: BellRoutes


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with running(MOTO) as endpoint:
        yield endpoint


@pytest.fixture(params=KINDS)
async def rope(request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rope]:
    monkeypatch.setattr("holdfast.sqs.bell.WAIT", 1)
    if request.param == "the ledger's":
        ledger = AsyncLedger(database)
        yield Rope(lambda: ledger.call(calls.ring(["default"])), BellRoutes())
        await ledger.close()
        return
    server: LocalSqs | None = request.getfixturevalue("sqs") if "ministack" in request.param else None
    endpoint = server.endpoint if server else str(request.getfixturevalue("moto"))
    client = Sqs(endpoint)
    url = await client.create(f"rope-{uuid4().hex[:8]}", {}, {"holdfast": "bell"})
    bells = SqsBells(url)
    yield Rope(lambda: bells.ring([Bell("default")]), BellRoutes(url))
    await bells.close()
    await client.close()


def noting(database: str) -> tuple[Holdfast, Counter[int]]:
    app, runs = app_on(database), Counter[int]()

    @app.job(name="note")
    async def note(number: int) -> None:
        runs[number] += 1

    return app, runs


def put(conn: Session, number: int) -> object:
    """A job that nobody rings for."""
    id = uuid4()
    conn.execute("SELECT holdfast.enqueue(%s, 'default', 'note', jsonb_build_object('number', %s::int))", (id, number))
    return id


async def test_it_wakes_a_worker_that_would_not_look_for_long(database: str, conn: Session, rope: Rope) -> None:
    app, runs = noting(database)
    put(conn, 0)
    async with working(database, app, bells=rope.routes, poll=60.0):
        await until(lambda: runs[0] == 1)  # it has looked, and does not look again for a minute
        put(conn, 1)

        async def rung() -> bool:
            await rope.ring()
            return runs[1] == 1

        await until(rung)


async def test_without_it_a_job_waits_for_the_poll_and_no_longer(database: str, conn: Session, rope: Rope) -> None:
    app, runs = noting(database)
    async with working(database, app, bells=rope.routes, poll=0.3):
        put(conn, 1)
        await until(lambda: runs[1] == 1)


async def test_rung_five_times_a_job_runs_once(database: str, conn: Session, rope: Rope) -> None:
    app, runs = noting(database)
    async with working(database, app, bells=rope.routes), working(database, app, bells=rope.routes):
        ids = [put(conn, number) for number in range(20)]
        await asyncio.gather(*(rope.ring() for _ in range(5)))
        await until(lambda: all(job(conn, id)["status"] == "succeeded" for id in ids))  # type: ignore[arg-type]
    assert runs == Counter(range(20))
