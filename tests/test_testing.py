"""`holdfast.testing`: a program's own tests, without a database and with a real one."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from holdfast import (
    ConfigurationError,
    Context,
    Holdfast,
    InvalidArguments,
    JobKind,
    JobNotFound,
    RetryPolicy,
    Settings,
    current_context,
)
from holdfast.services.standin import stand_in
from holdfast.testing import Sandbox, inline, sandbox

#: Nothing answers there: a test that touches it fails.
NOWHERE = "postgresql://127.0.0.1:9/nowhere"


@pytest.fixture
def hf() -> Holdfast:
    return Holdfast(settings=Settings.model_validate({"database_url": NOWHERE}))


@pytest.fixture
def mail(hf: Holdfast) -> JobKind[..., Any]:
    @hf.job(queue="mail", retry=RetryPolicy(base=10, jitter=0), max_attempts=3)
    async def mail(to: str, copies: int = 1) -> str:
        if to == "nobody":
            raise LookupError("no such address")
        return f"{copies} to {to}"

    return mail


@pytest.fixture
def box(hf: Holdfast, bare: str) -> Iterator[Sandbox]:
    with sandbox(hf, bare) as box:
        yield box


# Inline


async def test_inline_jobs_run_where_they_are_enqueued(hf: Holdfast, mail: JobKind[..., Any]) -> None:
    with inline(hf) as jobs:
        job = await mail.options(conn=object(), delay=60).enqueue("ann", copies=2)
        handles = await hf.enqueue_many([mail.prepare("bob"), mail.prepare("eve")])
        assert [await each.result() for each in [job, *handles]] == ["2 to ann", "1 to bob", "1 to eve"]
        assert await job.status() == "succeeded"
        with pytest.raises(JobNotFound):
            await hf.get(hf.new_id())
        with pytest.raises(ConfigurationError, match="cancel and retry need a sandbox"):
            await job.cancel()
    jobs.assert_enqueued(mail.options(queue="mail", delay=60), to="ann")
    assert [row.args["to"] for row in jobs.enqueued(mail)] == ["ann", "bob", "eve"]


def test_inline_jobs_run_without_an_event_loop_too(hf: Holdfast, mail: JobKind[..., Any]) -> None:
    @hf.job()
    def plain(n: int) -> datetime:
        return datetime(2031, 1, n, tzinfo=None)  # noqa: DTZ001

    with inline(hf):
        assert mail.enqueue_sync("ann").result_sync() == "1 to ann"
        assert plain.enqueue_sync(3).result_sync() == datetime(2031, 1, 3)  # noqa: DTZ001


async def test_inline_from_inside_a_loop_a_blocking_enqueue_runs_too(hf: Holdfast, mail: JobKind[..., Any]) -> None:
    with inline(hf):
        assert mail.enqueue_sync("ann").result_sync() == "1 to ann"


async def test_an_inline_job_is_found_by_its_id_as_text(hf: Holdfast, mail: JobKind[..., Any]) -> None:
    with inline(hf):
        job = await mail.enqueue("ann")
        assert (await hf.get(str(job.id))).id == job.id
        assert await hf.handle(str(job.id)).status() == "succeeded"


async def test_inline_raises_what_the_handler_raises_and_checks_arguments(
    hf: Holdfast, mail: JobKind[..., Any]
) -> None:
    with inline(hf) as jobs:
        with pytest.raises(LookupError, match="no such address"):
            await mail.enqueue("nobody")
        with pytest.raises(InvalidArguments):
            await mail.enqueue(3)
    (row,) = jobs.enqueued()
    assert (row.status, row.error) == ("dead", {"type": "LookupError", "message": "no such address"})


async def test_a_kind_that_is_called_directly_needs_no_context_of_the_caller_s(hf: Holdfast) -> None:
    @hf.job(queue="q")
    def inner(ctx: Context, n: int) -> tuple[UUID, str, int, int]:
        ctx.progress_sync(n)
        return ctx.job_id, ctx.queue, ctx.attempt, n

    @hf.job()
    async def outer(ctx: Context) -> bool:
        return bool(inner(n=7)[0] == ctx.job_id)

    @hf.job()
    async def settling(ctx: Context) -> None:
        async with ctx.transaction():
            raise NotImplementedError

    assert inner(7)[1:] == inner(n=7)[1:] == ("q", 1, 7)
    assert inner(7)[0] != inner(7)[0]
    own = stand_in(inner.kind, UUID(int=7), {}, datetime.now(UTC))
    assert inner.__call__(own, 3)[0] == inner.__call__(ctx=own, n=3)[0] == UUID(int=7)  # type: ignore[arg-type, call-arg]
    assert own.told == 3
    with inline(hf):
        assert await (await outer.enqueue()).result()
    with pytest.raises(RuntimeError, match=r"no ledger knows of this run, .* use holdfast\.testing\.sandbox"):
        await settling()


async def test_an_inline_handler_has_its_context(hf: Holdfast) -> None:
    @hf.job()
    async def inner(ctx: Context, n: int) -> str:
        assert current_context() is ctx
        await ctx.progress({"n": n})
        return ctx.kind

    @hf.job()
    async def outer(ctx: Context) -> Any:
        kind = await (await inner.enqueue(7)).result()
        assert current_context() is ctx
        await ctx.complete(object(), result=[kind, ctx.kind])

    @hf.job()
    def later(ctx: Context) -> None:
        ctx.heartbeat_sync()
        ctx.snooze(60)

    with inline(hf) as jobs:
        assert await (await outer.enqueue()).result() == ["inner", "outer"]
        snoozed = await later.enqueue()
        assert await snoozed.status() == "queued"
    assert [row.progress for row in jobs.enqueued(inner)] == [{"n": 7}]


async def test_after_the_block_jobs_go_to_the_ledger_again(hf: Holdfast, mail: JobKind[..., Any], bare: str) -> None:
    with inline(hf):
        pass
    with sandbox(hf, bare) as box:
        await mail.enqueue("ann")
        assert len(box.enqueued()) == 1


# Expectations


async def test_what_was_enqueued_can_be_asserted(box: Sandbox, hf: Holdfast, mail: JobKind[..., Any]) -> None:
    box.assert_not_enqueued()
    await mail.options(queue="slow", delay=90, priority=3).enqueue("ann")
    row = box.assert_enqueued(mail, to="ann")
    assert row.args == {"to": "ann", "copies": 1}
    box.assert_enqueued(mail.options(queue="slow", delay=90, priority=3), to="ann", copies=1)
    box.assert_not_enqueued(mail, to="bob")
    for kind, arguments in (
        (mail, {"to": "bob"}),
        (mail, {"cc": "ann"}),
        (mail.options(queue="mail"), {"to": "ann"}),
        (mail.options(delay=91), {}),
    ):
        with pytest.raises(AssertionError, match=r"was enqueued; what was: mail\(to='ann', copies=1\)"):
            box.assert_enqueued(kind, **arguments)
    with pytest.raises(AssertionError, match=r"1 of them enqueued: what was: mail\("):
        box.assert_not_enqueued(mail)


# Drain


async def test_a_drain_runs_what_is_due_and_what_that_enqueues(box: Sandbox, hf: Holdfast) -> None:
    @hf.job(queue="a")
    async def first(ctx: Context, n: int) -> None:
        async with ctx.transaction(result=n) as conn:
            await second.options(conn=conn).enqueue(n + 1)

    @hf.job(queue="b", isolation="process")
    def second(n: int) -> int:
        return n

    await first.enqueue(1)
    ran = await box.drain()
    assert [(each.kind, each.status, each.result) for each in ran] == [
        ("first", "succeeded", 1),
        ("second", "succeeded", 2),
    ]
    assert await box.drain() == []


async def test_a_failing_job_is_raised_and_comes_back_when_the_clock_has_moved(
    box: Sandbox, mail: JobKind[..., Any]
) -> None:
    await mail.enqueue("nobody")
    with pytest.raises(LookupError, match="no such address") as caught:
        await box.drain()
    assert "attempt 1" in caught.value.__notes__[0]
    assert await box.drain() == []
    box.advance(seconds=10)
    (ran,) = await box.drain(reraise=False)
    assert (ran.attempt, ran.status, type(ran.error)) == (2, "queued", LookupError)
    box.advance(hours=1)
    (ran,) = await box.drain(reraise=False)
    assert (ran.attempt, ran.status) == (3, "dead")


async def test_arguments_that_no_longer_fit_are_told(box: Sandbox, hf: Holdfast, mail: JobKind[..., Any]) -> None:
    await mail.enqueue("ann")
    with psycopg.connect(box.dsn, autocommit=True) as conn:
        conn.execute("""UPDATE holdfast.jobs SET args = '{"to": 3}'""")
    with pytest.raises(AssertionError, match="mail: to: Input should be a valid string, got 3"):
        await box.drain()


async def test_only_the_queues_that_were_named_are_drained(box: Sandbox, mail: JobKind[..., Any]) -> None:
    await mail.options(queue="other").enqueue("ann")
    assert await box.drain("mail") == []
    assert len(await box.drain("other")) == 1
    await mail.options(queue="another").enqueue("ann")
    assert len(await box.drain()) == 1


async def test_a_drain_without_an_end_ends(box: Sandbox, hf: Holdfast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.testing.drain.MOST_RUNS", 5)

    @hf.job()
    async def forever() -> None:
        await forever.enqueue()

    await forever.enqueue()
    with pytest.raises(AssertionError, match="no end after 5 runs: does forever enqueue itself"):
        await box.drain()
    assert len(box.enqueued(status="queued")) == 1


def test_all_of_it_without_an_event_loop(box: Sandbox, mail: JobKind[..., Any]) -> None:
    job = mail.options(delay=3600).enqueue_sync("ann")
    assert box.drain_sync() == []
    before = box.now()
    box.advance(hours=1)
    assert timedelta(hours=1) <= box.now() - before < timedelta(hours=1, minutes=1)
    assert [each.result for each in box.drain_sync()] == ["1 to ann"]
    assert job.result_sync(timeout=10) == "1 to ann"


async def test_schedules_tick_on_the_moved_clock(box: Sandbox, hf: Holdfast) -> None:
    @hf.periodic("0 3 * * *")
    @hf.job()
    async def nightly() -> None: ...

    assert await box.tick() == []
    box.advance(days=1)
    assert await box.tick() == ["nightly"]
    assert await box.tick() == []
    assert [each.kind for each in await box.drain()] == ["nightly"]


async def test_a_settled_own_transaction_is_no_failure(box: Sandbox, hf: Holdfast) -> None:
    @hf.job(max_attempts=1)
    async def book(ctx: Context) -> None:
        async with await psycopg.AsyncConnection.connect(box.dsn) as conn:
            await ctx.complete(conn, result=5)

    await book.enqueue()
    (ran,) = await box.drain()
    assert (ran.status, ran.result) == ("succeeded", 5)


# Where


def test_a_sandbox_is_gone_afterwards_and_the_program_is_as_it_was(
    hf: Holdfast, mail: JobKind[..., Any], bare: str
) -> None:
    async def use(box: Sandbox) -> None:
        await mail.enqueue("ann")
        assert len(await box.drain()) == 1

    with sandbox(hf, bare) as box:
        asyncio.run(use(box))
        dsn = box.dsn
    assert hf.settings.database_url is not None
    assert hf.settings.database_url.get_secret_value() == NOWHERE
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)


async def test_a_database_may_be_used_in_place(hf: Holdfast, mail: JobKind[..., Any], database: str) -> None:
    """It is called holdfast_test_…"""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE TABLE users (name text)")
        for _ in range(2):
            with sandbox(hf, database, in_place=True) as box:
                box.assert_not_enqueued()
                async with await psycopg.AsyncConnection.connect(box.dsn) as own:
                    await own.execute("INSERT INTO users VALUES ('ann')")
                    await mail.options(conn=own).enqueue("ann")
                box.assert_enqueued(mail)
                box.advance(hours=1)
        assert conn.execute("SELECT count(*) FROM users").fetchone() == (2,)


def test_a_database_that_is_not_for_tests_is_left_alone(hf: Holdfast, bare: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="would be emptied, and its name does not say that it is for tests"),
        sandbox(hf, bare, in_place=True),
    ):
        pass


def test_a_local_server_is_started_for_a_process_s_tests_and_removed_with_it(tmp_path: Any) -> None:
    program = """
import glob
from holdfast import Holdfast
from holdfast.testing import sandbox
hf = Holdfast()
@hf.job()
def double(n: int) -> int:
    return 2 * n
for _ in range(2):
    with sandbox(hf) as box:
        double.enqueue_sync(21)
        print(box.drain_sync()[0].result)
import sys
print("pytest" in sys.modules, box.dsn)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100
    )
    first, second, said = done.stdout.splitlines()
    assert (first, second) == ("42", "42")
    imported, dsn = said.split(" ", 1)
    assert imported == "False"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn, connect_timeout=3)
