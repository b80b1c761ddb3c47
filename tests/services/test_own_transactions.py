"""A handler that settles its job in a transaction of its own: its effects happen exactly once, whatever goes wrong."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from holdfast import Context, Holdfast, InvalidConnection, JobFailed, JobLogFilter, LeaseLost, RetryPolicy
from holdfast.events import JobFailed as JobFailedEvent
from holdfast.events import LeaseWasLost
from tests import support
from tests.connections import (
    ASYNCHRONOUS,
    BLOCKING,
    Asynchronous,
    Blocking,
    psycopg_async,
    psycopg_connection,
    sqlalchemy_async_session,
)
from tests.services.helpers import Relay, app_on, until, working
from tests.support import Session

Open = Callable[[str], AbstractContextManager[Blocking]]
OpenAsync = Callable[[str], AbstractAsyncContextManager[Asynchronous]]

AT_ONCE = RetryPolicy(base=0, jitter=0)


@pytest.fixture(scope="module")
def shared(bare: str, template: str) -> Iterator[str]:
    with support.database_copy(bare, template) as dsn:
        yield dsn


@pytest.fixture
def database(shared: str) -> str:
    """One for all tests here, which is quicker; `table` empties it."""
    return shared


@pytest.fixture(autouse=True)
def table(conn: Session) -> None:
    conn.execute("CREATE TABLE IF NOT EXISTS effects (lease bigint)")
    conn.execute("TRUNCATE effects, holdfast.jobs, holdfast.job_events")


def effects(conn: Session) -> list[int]:
    return [each["lease"] for each in support.rows(conn, "SELECT lease FROM effects ORDER BY lease")]


def fenced(conn: Session, job_id: UUID) -> list[str]:
    return [each["event"] for each in support.events(conn, job_id)]


@pytest.mark.parametrize("connection", ASYNCHRONOUS, ids=lambda each: each.__name__)
async def test_the_job_s_end_and_its_effects_are_one_commit(
    connection: OpenAsync, hf: Holdfast, database: str, conn: Session
) -> None:
    @hf.job(max_attempts=1)
    async def book(ctx: Context, seat: int) -> Any:
        async with connection(database) as own:
            await own.execute(f"INSERT INTO effects VALUES ({ctx.lease})")
            await ctx.complete(own.conn, result={"seat": seat})
            assert support.job(conn, ctx.job_id)["status"] == "running"
            await own.commit()
            assert support.job(conn, ctx.job_id)["status"] == "succeeded"

    async with working(database, hf) as running:
        job = await book.enqueue(7)
        assert await job.result(timeout=20) == {"seat": 7}
    assert effects(conn) == [1]
    assert fenced(conn, job.id) == []
    assert running.recorder.of(LeaseWasLost) == []
    assert running.recorder.of(JobFailedEvent) == []


@pytest.mark.parametrize("connection", BLOCKING, ids=lambda each: each.__name__)
async def test_the_same_in_plain_handlers(connection: Open, hf: Holdfast, database: str, conn: Session) -> None:
    @hf.job(max_attempts=1)
    def book(ctx: Context, seat: int) -> Any:
        with connection(database) as own:
            own.execute(f"INSERT INTO effects VALUES ({ctx.lease})")
            ctx.complete_sync(own.conn, result={"seat": seat})
            own.commit()

    async with working(database, hf):
        job = await book.enqueue(7)
        assert await job.result(timeout=20) == {"seat": 7}
    assert effects(conn) == [1]
    assert fenced(conn, job.id) == []


async def test_a_zombie_s_transaction_rolls_back_with_lease_lost(hf: Holdfast, database: str, conn: Session) -> None:
    raised: list[str] = []
    began, go_on = asyncio.Event(), asyncio.Event()

    @hf.job(retry=AT_ONCE)
    async def book(ctx: Context) -> None:
        if ctx.lease == 1:
            began.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(go_on.wait())
        try:
            async with sqlalchemy_async_session(database) as own:
                await own.execute(f"INSERT INTO effects VALUES ({ctx.lease})")
                await ctx.complete(own.conn)
                await own.commit()
        except LeaseLost as lost:
            raised.append(str(lost))
            raise

    async with working(database, hf):
        job = await book.enqueue()
        await began.wait()
        thief = support.register(conn)
        conn.execute("UPDATE holdfast.jobs SET lease = lease + 1, worker_id = %s", (thief,))
        go_on.set()
        await until(lambda: raised)
        assert effects(conn) == []
        heir = support.job(conn, job.id)
        assert support.settle(conn, thief, heir, "release") == "applied"
        await job.result(timeout=20)
    assert effects(conn) == [3]
    assert "is no longer held under lease 1; roll your transaction back" in raised[0]


async def test_a_failed_statement_that_is_passed_over_is_told_as_what_it_is(hf: Holdfast, conn: Session) -> None:
    @hf.job(retry=AT_ONCE, max_attempts=2)
    async def book(ctx: Context) -> None:
        async with ctx.transaction() as own:
            await own.execute("INSERT INTO effects VALUES (1)")
            with contextlib.suppress(psycopg.errors.DivisionByZero):
                if ctx.attempt == 1:
                    await own.execute("SELECT 1 / 0")
                async with own.transaction():
                    await own.execute("SELECT 1 / 0")

    async with working(hf.database.dsn, hf):
        job = await book.enqueue()
        await job.result(timeout=20)
    (failure,) = [each["details"]["error"] for each in support.events(conn, job.id)]
    assert failure["type"] == "TransactionFailed"
    assert failure["message"].startswith("a statement in ctx.transaction failed and its error was passed over")
    assert effects(conn) == [1]


async def test_a_handler_that_forgets_to_commit_fails_and_is_tried_again(
    hf: Holdfast, database: str, conn: Session
) -> None:
    @hf.job(retry=AT_ONCE, max_attempts=3)
    async def book(ctx: Context) -> None:
        async with psycopg_async(database) as own:
            await own.execute(f"INSERT INTO effects VALUES ({ctx.lease})")
            await ctx.complete(own.conn)
            if ctx.attempt == 3:
                await own.commit()

    async with working(database, hf):
        job = await book.enqueue()
        await job.result(timeout=20)
    assert effects(conn) == [3]
    failures = [each["details"]["error"] for each in support.events(conn, job.id)]
    assert [each["type"] for each in failures] == ["NotCommitted", "NotCommitted"]
    assert failures[0]["message"].endswith("its transaction was not committed; commit after it")


@pytest.mark.parametrize("committed", [True, False])
async def test_an_error_after_complete_counts_only_where_nothing_was_committed(
    committed: bool, hf: Holdfast, database: str, conn: Session
) -> None:
    """As when the answer of the commit is lost: the handler sees an error and cannot know."""

    @hf.job(retry=AT_ONCE, max_attempts=2)
    async def book(ctx: Context) -> None:
        async with psycopg_async(database) as own:
            await own.execute(f"INSERT INTO effects VALUES ({ctx.lease})")
            await ctx.complete(own.conn)
            if committed or ctx.attempt == 2:
                await own.commit()
            if ctx.attempt == 1:
                raise ConnectionError("the answer of the commit was lost")

    async with working(database, hf):
        job = await book.enqueue()
        await job.result(timeout=20)
        await until(lambda: support.job(conn, job.id)["lease"] == (1 if committed else 2))
    assert effects(conn) == [1 if committed else 2]
    assert fenced(conn, job.id) == ([] if committed else ["failure"])


async def test_a_lost_answer_of_our_own_transaction_s_commit_is_no_second_run(
    relay: Relay, database: str, conn: Session
) -> None:
    hf = app_on(database)

    @hf.job(retry=AT_ONCE)
    async def book(ctx: Context) -> None:
        async with ctx.transaction() as own:
            await own.execute("INSERT INTO effects VALUES (%s)", (ctx.lease,))
            if ctx.lease == 1:
                lost.append(relay.lose_answer(b"COMMIT"))

    lost: list[asyncio.Event] = []
    async with hf, working(relay.dsn, hf) as running:
        job = await book.enqueue()
        await job.result(timeout=20)
        await until(lambda: support.worker(conn, running.id)["running"] == 0)
    assert lost[0].is_set()
    assert effects(conn) == [1]
    assert fenced(conn, job.id) == []


async def test_jobs_enqueued_in_the_handler_s_transaction_exist_with_its_commit(
    hf: Holdfast, database: str, conn: Session
) -> None:
    @hf.job()
    async def second(of: int) -> int:
        return of

    @hf.job(retry=AT_ONCE)
    async def first(ctx: Context) -> None:
        async with ctx.transaction() as own:
            await second.options(conn=own).enqueue(of=ctx.lease)
            if ctx.attempt < 3:
                raise RuntimeError("not yet")

    async with working(database, hf):
        await (await first.enqueue()).result(timeout=20)
        await until(lambda: [each["status"] for each in seconds(conn)] == ["succeeded"])
    assert [each["args"] for each in seconds(conn)] == [{"of": 3}]


def seconds(conn: Session) -> list[support.Row]:
    return support.rows(conn, "SELECT * FROM holdfast.jobs WHERE kind = 'second'")


async def test_complete_without_a_transaction_is_refused_and_costs_an_attempt(
    hf: Holdfast, database: str, conn: Session
) -> None:
    @hf.job(max_attempts=1)
    async def book(ctx: Context) -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as own:
            with pytest.raises(InvalidConnection, match="without an open transaction"):
                await ctx.complete(own)
        raise RuntimeError("as it should")

    async with working(database, hf):
        with pytest.raises(JobFailed, match="as it should"):
            await (await book.enqueue()).result(timeout=20)


async def test_a_transaction_that_stays_idle_after_complete_is_ended_by_the_server(
    hf: Holdfast, database: str, conn: Session
) -> None:
    """A frozen process must not keep its job's row locked: the rescue would wait for ever."""
    limits: list[str] = []

    @hf.job()
    def book(ctx: Context) -> None:
        with psycopg_connection(database) as own:
            ctx.complete_sync(own.conn)
            limits.append(own.conn.execute("SHOW idle_in_transaction_session_timeout").fetchone()[0])
            own.commit()
            limits.append(own.conn.execute("SHOW idle_in_transaction_session_timeout").fetchone()[0])

    async with working(database, hf):
        await (await book.enqueue()).result(timeout=20)
        await until(lambda: len(limits) == 2)
    assert limits == ["25s", "0"]


# What log lines say


async def test_log_lines_of_a_handler_name_its_run(
    hf: Holdfast, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(JobLogFilter())
    other = logging.getLogger("a.library")

    @hf.job()
    async def asynchronous(ctx: Context) -> None:
        ctx.log.warning("said by %s", "ctx.log")
        other.warning("said by a library")

    @hf.job()
    def plain(ctx: Context) -> None:
        other.warning("said in a thread")

    async with working(database, hf):
        jobs: list[Any] = [await asynchronous.enqueue(), await plain.enqueue()]
        for job in jobs:
            await job.result(timeout=20)
    logging.getLogger().warning("said outside")
    said = {record.getMessage(): record for record in caplog.records}
    for text, job in (("said by ctx.log", jobs[0]), ("said by a library", jobs[0]), ("said in a thread", jobs[1])):
        record: Any = said[text]
        assert (record.job_id, record.kind, record.attempt, record.lease) == (str(job.id), job.kind, 1, 1)
        assert record.job == f"[{job.kind} {job.id} attempt 1] "
    outside: Any = said["said outside"]
    assert (outside.job, outside.job_id) == ("", None)


async def test_a_run_sees_what_an_earlier_run_told_last(hf: Holdfast, database: str) -> None:
    seen: list[Any] = []

    @hf.job(retry=AT_ONCE)
    async def walk(ctx: Context) -> None:
        seen.append(ctx.last_progress)
        await ctx.progress({"step": ctx.attempt})
        if ctx.attempt < 3:
            raise RuntimeError("not yet")

    async with working(database, hf):
        job = await walk.enqueue()
        await job.result(timeout=20)
        assert await job.progress() == {"step": 3}
    assert seen == [None, {"step": 1}, {"step": 2}]
