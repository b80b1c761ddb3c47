"""A worker inside a program's own process."""

import asyncio
import random
import threading
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from holdfast import ConfigurationError, Context, DatabaseUnavailable, Holdfast
from holdfast.app import new_id
from holdfast.events import LedgerLost, Sinks
from holdfast.services.inside import InsideWorker
from holdfast.services.worker import EXIT_LEFTOVERS, Worker
from tests import support
from tests.services.helpers import Recorder, app_on, relay_to, until, worker_settings
from tests.support import Session


def workers(conn: Session) -> list[tuple[UUID, str | None]]:
    found = support.rows(conn, "SELECT id, gone_reason FROM holdfast.workers ORDER BY started_at, id")
    return [(each["id"], each["gone_reason"]) for each in found]


async def test_jobs_run_while_the_block_lasts_and_finish_before_it_ends(
    hf: Holdfast, database: str, conn: Session
) -> None:
    began = asyncio.Event()

    @hf.job(queue="q")
    async def slow() -> str:
        began.set()
        await asyncio.sleep(0.2)
        return threading.current_thread().name

    async with hf.worker(slots=3):
        job = await slow.enqueue()
        await began.wait()
        ((_, reason),) = workers(conn)
        assert reason is None
    assert support.job(conn, job.id)["result"] == threading.current_thread().name
    assert [reason for _, reason in workers(conn)] == ["stopped"]
    assert support.row(conn, "SELECT slots, queues FROM holdfast.workers") == {"slots": 3, "queues": ["q"]}


async def test_a_worker_that_was_declared_gone_is_followed_by_one_with_a_new_id(hf: Holdfast, conn: Session) -> None:
    """As after a laptop's sleep."""

    @hf.job()
    async def task() -> int:
        return 1

    async with hf.worker():
        await until(lambda: workers(conn))
        conn.execute("SELECT holdfast.mark_workers_gone(ARRAY(SELECT id FROM holdfast.workers), 'fenced')")
        await until(lambda: len(workers(conn)) == 2, seconds=30)
        assert await (await task.enqueue()).result(timeout=30) == 1
    assert [reason for _, reason in workers(conn)] == ["fenced", "stopped"]


async def test_only_the_kinds_and_queues_that_were_named_are_served(hf: Holdfast, conn: Session) -> None:
    @hf.job(queue="a")
    async def one() -> None: ...

    @hf.job(queue="b")
    async def two() -> None: ...

    async with hf.worker(kinds=["two"]):
        other, job = await one.enqueue(), await two.enqueue()
        await job.result(timeout=20)
        assert await other.status() == "queued"
    with pytest.raises(ConfigurationError, match="no kind of job 'three'; it has one, two"):
        async with hf.worker(kinds=["three"]):
            pass
    with pytest.raises(ConfigurationError, match="slots: Input should be greater than or equal to 1, got 0"):
        async with hf.worker(slots=0):
            pass


async def test_a_kind_that_needs_a_process_of_its_own_needs_to_be_found(hf: Holdfast) -> None:
    @hf.job(isolation="process")
    def crashing() -> None: ...

    with pytest.raises(ConfigurationError, match=r"crashing has isolation 'process'.* set HOLDFAST_APP"):
        async with hf.worker():
            pass


async def test_an_application_holds_it_in_its_lifespan(hf: Holdfast, conn: Session) -> None:
    @hf.job()
    async def double(n: int) -> int:
        return 2 * n

    app = FastAPI(lifespan=hf.lifespan(slots=2))

    @app.post("/double/{n}")
    async def post(n: int) -> dict[str, int]:
        return {"doubled": await (await double.enqueue(n)).result(timeout=20)}

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        assert (await client.post("/double/21")).json() == {"doubled": 42}
    assert [reason for _, reason in workers(conn)] == ["stopped"]
    assert hf._clients == {}


async def test_a_database_that_is_not_there_is_told_at_the_start() -> None:
    hf = app_on("postgresql://127.0.0.1:9/nowhere")
    with pytest.raises(DatabaseUnavailable):
        async with hf.worker():
            pass


def inside(dsn: str, hf: Holdfast, recorder: Recorder, ended: list[int], **changes: Any) -> InsideWorker:
    def make(worker_id: UUID) -> Worker:
        settings = worker_settings(hf, **changes)
        return Worker(
            dsn, hf.kinds, settings, worker_id=worker_id, sinks=Sinks([recorder]), rng=random.Random(7),
            exit_process=ended.append,
        )  # fmt: skip

    return InsideWorker(make, new_id, Sinks([recorder]), exit_process=ended.append)


async def test_a_thread_that_ignores_its_cancellation_ends_the_process_and_its_lease_with_it(
    hf: Holdfast, database: str, conn: Session
) -> None:
    released, begun = threading.Event(), threading.Event()
    ended: list[int] = []

    @hf.job()
    def stubborn(ctx: Context) -> None:
        begun.set()
        released.wait(60)

    worker = inside(database, hf, Recorder(), ended, drain_timeout=0.1)
    running = asyncio.create_task(worker.run())
    job = await stubborn.enqueue()
    await until(begun.is_set)
    worker.stop()
    try:
        await until(lambda: ended)
        assert ended == [EXIT_LEFTOVERS]
        assert support.job(conn, job.id)["status"] == "running"
        assert [reason for _, reason in workers(conn)] == [None]
    finally:
        released.set()
        await running


async def test_a_ledger_that_is_away_when_a_worker_begins_is_tried_again(database: str, hf: Holdfast) -> None:
    @hf.job()
    async def task() -> int:
        return 1

    recorder = Recorder()
    async with relay_to(database) as relay:
        await relay.down()
        worker = inside(relay.dsn, hf, recorder, [])
        running = asyncio.create_task(worker.run())
        await until(lambda: recorder.of(LedgerLost))
        await relay.up()
        assert await (await task.enqueue()).result(timeout=30) == 1
        worker.stop()
        await running
