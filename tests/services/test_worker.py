"""A worker in this process, on a real Postgres: what becomes of each run, and of the worker itself."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, field_validator

from holdfast import Context, Holdfast, JobCancelled, JobFailed, LeaseLost, RetryPolicy, current_context
from holdfast.app import new_id
from holdfast.core.lease import LeaseTimings, Trust
from holdfast.events import JobFailed as JobFailedEvent
from holdfast.events import LeaseWasLost, LedgerLost, TrustChanged, WorkerCondemned, WorkerStarted, WorkerStopped
from holdfast.services.worker import EXIT_GONE, EXIT_STOPPED, Worker
from tests import support
from tests.services.helpers import Relay, Running, at_most_at_once, until, worker_settings, working
from tests.support import Row, Session

AT_ONCE = RetryPolicy(base=0, jitter=0)


class Gate:
    """A handler stands before it until the test lets it pass; it knows who came, and how they left."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.came: list[Context] = []
        self.passed: list[Context] = []
        self.cancelled: list[Context] = []

    async def passing(self, ctx: Context) -> None:
        self.came.append(ctx)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(ctx)
            raise
        self.passed.append(ctx)


@pytest.fixture
def gate(hf: Holdfast) -> Gate:
    """With the kind `gated` of the app."""
    made = Gate()

    @hf.job(retry=AT_ONCE)
    async def gated(ctx: Context, n: int = 0) -> int:
        await made.passing(ctx)
        return n

    return made


@pytest.fixture
async def worker(database: str, hf: Holdfast, gate: Gate) -> AsyncIterator[Running]:
    """Serves what is registered before its start: the kinds of `gate`."""
    async with working(database, hf) as running:
        yield running
        gate.open.set()


def add(hf: Holdfast, handler: Any, **options: Any) -> Any:
    return hf.job(**{"retry": AT_ONCE, **options})(handler)


async def gated(hf: Holdfast, gate: Gate, count: int = 1) -> list[UUID]:
    """Jobs of the kind `gated`, all of them begun."""
    before = len(gate.came)
    ids = [support_id.id for support_id in await hf.enqueue_many(_gated(hf).prepare(n) for n in range(count))]
    await until(lambda: len(gate.came) == before + count, "all jobs have begun")
    return ids


def _gated(hf: Holdfast) -> Any:
    from holdfast.handles import JobKind

    return JobKind(hf, hf.kinds["gated"])


# What handlers are given, and what becomes of what they return


async def test_async_and_plain_handlers_run_and_their_results_come_back(hf: Holdfast, database: str) -> None:
    loop_thread = threading.current_thread()

    async def on_the_loop(a: int, *, b: str = "x") -> dict[str, Any]:
        assert threading.current_thread() is loop_thread
        return {"a": a, "b": b}

    def in_a_thread(a: list[int]) -> int:
        assert threading.current_thread() is not loop_thread
        return sum(a)

    async def nothing() -> None: ...

    kinds = [add(hf, each) for each in (on_the_loop, in_a_thread, nothing)]
    async with working(database, hf):
        jobs = [await kinds[0].enqueue(1, b="y"), await kinds[1].enqueue([1, 2, 3]), await kinds[2].enqueue()]
        assert [await job.result(timeout=20) for job in jobs] == [{"a": 1, "b": "y"}, 6, None]


async def test_arguments_that_another_program_nested_deeply_can_be_read(
    hf: Holdfast, database: str, conn: Session
) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]

    async def depth(value: list[Any]) -> int:
        found = 0
        while value:
            value, found = value[0], found + 1
        return found

    add(hf, depth)
    job_id = support.enqueue(conn, kind="depth", args={"value": deep})
    async with working(database, hf):
        await until(lambda: support.job(conn, job_id)["status"] == "succeeded")
    assert support.job(conn, job_id)["result"] == 300


async def test_a_handler_knows_its_own_run(hf: Holdfast, database: str, conn: Session) -> None:
    seen: list[dict[str, Any]] = []

    def look(ctx: Context) -> None:
        assert current_context() is ctx
        seen.append(
            {name: getattr(ctx, name) for name in ("job_id", "lease", "attempt", "kind", "queue", "cancelled")}
            | {"created_at": ctx.created_at}
        )

    async def asynchronous(ctx: Context) -> None:
        look(ctx)
        if ctx.attempt == 1:
            raise ValueError("once more")

    def plain(ctx: Context) -> None:
        look(ctx)

    one, two = add(hf, asynchronous, queue="q"), add(hf, plain)
    async with working(database, hf):
        first = await one.enqueue()
        await first.result(timeout=20)
        second = await two.enqueue()
        await second.result(timeout=20)
    rows = {each: support.job(conn, each) for each in (first.id, second.id)}
    assert [(each["job_id"], each["lease"], each["attempt"], each["kind"], each["queue"]) for each in seen] == [
        (first.id, 1, 1, "asynchronous", "q"),
        (first.id, 2, 2, "asynchronous", "q"),
        (second.id, 1, 1, "plain", "default"),
    ]
    assert all(each["created_at"] == rows[each["job_id"]]["created_at"] and not each["cancelled"] for each in seen)
    with pytest.raises(LookupError, match="was called outside of a job's handler"):
        current_context()


async def test_progress_is_stored_from_async_and_plain_handlers(hf: Holdfast, database: str, conn: Session) -> None:
    seen: list[Any] = []

    async def asynchronous(ctx: Context) -> None:
        await ctx.progress({"step": 1})
        await ctx.heartbeat()
        seen.append(support.job(conn, ctx.job_id)["progress"])
        with pytest.raises(ValueError, match="progress is not JSON"):
            await ctx.progress(object())

    def plain(ctx: Context) -> None:
        ctx.progress_sync([2])
        ctx.heartbeat_sync()

    one, two = add(hf, asynchronous), add(hf, plain)
    async with working(database, hf):
        await (await one.enqueue()).result(timeout=20)
        job = await two.enqueue()
        await job.result(timeout=20)
    assert seen == [{"step": 1}]
    assert support.job(conn, job.id)["progress"] == [2]


async def test_snooze_ends_the_run_and_comes_back_at_no_cost(hf: Holdfast, database: str, conn: Session) -> None:
    async def sleepy(ctx: Context) -> str:
        if ctx.lease == 1:
            ctx.snooze(0)
        if ctx.lease == 2:
            ctx.snooze(3600)
        return "awake"

    kind = add(hf, sleepy)
    async with working(database, hf):
        job = await kind.enqueue()
        await until(lambda: len(support.events(conn, job.id)) == 2)
        row = support.job(conn, job.id)
        assert (row["status"], row["attempts"], row["lease"]) == ("queued", 0, 2)
        assert row["run_at"] - support.clock(conn) > timedelta(minutes=55)
        conn.execute("UPDATE holdfast.jobs SET run_at = holdfast.clock()")
        assert await job.result(timeout=20) == "awake"
    assert {event["event"] for event in support.events(conn, job.id)} == {"snooze"}


async def test_a_handler_that_catches_every_exception_still_snoozes(hf: Holdfast, database: str, conn: Session) -> None:
    async def asynchronous(ctx: Context) -> None:
        try:
            async with asyncio.timeout(10), ctx.transaction():
                ctx.snooze(3600)
        except Exception:
            await asyncio.Event().wait()

    def plain(ctx: Context) -> None:
        try:
            ctx.snooze(3600)
        except Exception:
            ctx.wait_cancelled(60)

    async with working(database, hf):
        for kind in (add(hf, asynchronous), add(hf, plain)):
            job = await kind.enqueue()
            await until(lambda: bool(support.events(conn, job.id)))  # noqa: B023
            row = support.job(conn, job.id)
            assert (row["status"], row["attempts"], row["settled_as"]) == ("queued", 0, "snooze")


async def test_a_snooze_that_cannot_be_meant_is_the_handler_s_own_error(hf: Holdfast, database: str) -> None:
    delays = [-1, float("nan"), float("inf"), 1e12]

    async def sleepy(ctx: Context, place: int) -> None:
        ctx.snooze(delays[place])

    kind = add(hf, sleepy, max_attempts=1)
    async with working(database, hf):
        jobs = await hf.enqueue_many(kind.prepare(place) for place in range(4))
        ends = await asyncio.gather(*(job.result(timeout=20) for job in jobs), return_exceptions=True)
    assert all("ValueError: snooze for" in str(each) for each in ends)


# Failures


async def test_a_failing_handler_is_tried_again_by_its_policy_and_then_dead(
    hf: Holdfast, database: str, conn: Session
) -> None:
    tried: list[int] = []

    async def fails(ctx: Context) -> None:
        tried.append(ctx.attempt)
        raise KeyError(f"no user {ctx.attempt}")

    kind = add(hf, fails, max_attempts=3, retry=RetryPolicy(base=100, factor=3, cap=250, jitter=0))
    async with working(database, hf) as running:
        job = await kind.enqueue()
        delays = []
        for failures in (1, 2):
            await until(lambda: len(support.events(conn, job.id)) == failures)  # noqa: B023
            row = support.job(conn, job.id)
            event = support.events(conn, job.id)[-1]
            delays.append(round((row["run_at"] - event["at"]).total_seconds()))
            assert row["status"] == "queued"
            conn.execute("UPDATE holdfast.jobs SET run_at = holdfast.clock()")
        with pytest.raises(JobFailed, match="KeyError: 'no user 3'"):
            await job.result(timeout=20)
        told = await until(lambda: len(running.recorder.of(JobFailedEvent)) == 3 and running.recorder)
    assert (tried, delays) == ([1, 2, 3], [100, 250])
    assert [event.status for event in told.of(JobFailedEvent)] == ["queued", "queued", "dead"]
    row = support.job(conn, job.id)
    assert (row["status"], row["attempts"], row["error"]["type"]) == ("dead", 3, "KeyError")
    assert "in fails" in row["error"]["traceback"]
    fingerprints = {event["details"]["fingerprint"] for event in support.events(conn, job.id)}
    assert fingerprints == {row["fingerprint"]}


async def test_causes_are_told_apart_by_where_the_handler_called_what_failed(
    hf: Holdfast, database: str, conn: Session
) -> None:
    def order(text: str) -> None:
        json.loads(text)

    def customer(text: str) -> None:
        json.loads(text)

    async def reads(ctx: Context, place: int) -> None:
        (order, customer)[place]("{")

    kind = add(hf, reads, max_attempts=1)
    async with working(database, hf):
        jobs = await hf.enqueue_many(kind.prepare(place) for place in range(2))
        await asyncio.gather(*(job.result(timeout=20) for job in jobs), return_exceptions=True)
    assert len({support.job(conn, job.id)["fingerprint"] for job in jobs}) == 2


class Odd(BaseException):
    """No Exception, and nothing that Python itself raises."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS: list[tuple[BaseException, str]] = [
    (SystemExit(3), "SystemExit: 3"),
    (asyncio.CancelledError("own"), "CancelledError: own"),
    (StopIteration("x"), "RuntimeError: "),
    (TimeoutError("its own"), "TimeoutError: its own"),
    (ValueError("a\x00b \ud800 c"), "ValueError: ab ? c"),
    (ValueError("text \\u0000 cannot be converted"), "ValueError: text \\u0000 cannot be converted"),
    (ValueError("x" * 1_000_000), "ValueError: xxx"),
    (Odd("of its own"), "Odd: of its own"),
    (KeyboardInterrupt("handler"), "KeyboardInterrupt: handler"),
    (Unprintable(), "Unprintable: (its text cannot be shown: str() raised RuntimeError)"),
]


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "plain"])
async def test_whatever_a_handler_raises_costs_one_attempt_and_is_kept(
    hf: Holdfast, database: str, conn: Session, asynchronous: bool
) -> None:
    async def on_the_loop(place: int) -> None:
        raise ERRORS[place][0]

    def in_a_thread(place: int) -> None:
        raise ERRORS[place][0]

    kind = add(hf, on_the_loop if asynchronous else in_a_thread, max_attempts=2)
    async with working(database, hf):
        jobs = await hf.enqueue_many(kind.prepare(place) for place in range(len(ERRORS)))
        ends = await asyncio.gather(*(job.result(timeout=20) for job in jobs), return_exceptions=True)
    for job, end, (_, shown) in zip(jobs, ends, ERRORS, strict=True):
        assert isinstance(end, JobFailed)
        assert f"is dead: {shown}" in str(end)
        row = support.job(conn, job.id)
        assert (row["attempts"], "traceback" in row["error"]) == (2, True)


class Picky(BaseModel):
    """Its validator breaks in a way that pydantic does not expect."""

    x: int

    @field_validator("x")
    @classmethod
    def _check(cls, value: int) -> int:
        return {1: 1}[value]


async def test_arguments_that_no_longer_fit_end_the_job_with_a_readable_error(
    hf: Holdfast, database: str, conn: Session
) -> None:
    ran: list[Any] = []

    async def mail(to: str, copies: int = 1) -> None:
        ran.append(to)

    async def picky(item: Picky) -> None:
        ran.append(item)

    add(hf, mail)
    add(hf, picky)
    wrong = support.enqueue(conn, kind="mail", args={"to": "ann", "copies": "many"})
    missing = support.enqueue(conn, kind="mail", args={})
    broken = support.enqueue(conn, kind="picky", args={"item": {"x": 2}})
    async with working(database, hf) as running:
        await until(lambda: all(support.job(conn, each)["status"] == "dead" for each in (wrong, missing, broken)))
        await until(lambda: running.worker._runs == {})  # a slot is free a moment after the ledger has the outcome
    errors = {each: support.job(conn, each)["error"] for each in (wrong, missing, broken)}
    assert errors[wrong]["type"] == "InvalidArguments"
    assert errors[wrong]["message"].startswith("mail: copies: Input should be a valid integer")
    assert errors[missing]["message"].startswith("mail: to: Field required")
    assert errors[broken]["type"] == "KeyError"
    assert support.job(conn, wrong)["attempts"] == 1
    assert ran == []


async def test_a_result_that_cannot_be_stored_ends_its_job_and_not_the_others(
    hf: Holdfast, database: str, conn: Session
) -> None:
    values = [object(), "a\x00", float("nan"), "x" * 1_100_000, 1]

    async def returns(place: int) -> Any:
        return values[place]

    kind = add(hf, returns)
    async with working(database, hf):
        jobs = await hf.enqueue_many(kind.prepare(place) for place in range(5))
        *bad, good = await asyncio.gather(*(job.result(timeout=20) for job in jobs), return_exceptions=True)
    assert good == 1
    assert all("InvalidResult: result of returns" in str(each) for each in bad)
    assert {support.job(conn, job.id)["attempts"] for job in jobs[:4]} == {1}


async def test_a_kind_that_nobody_knows_stays_queued(hf: Holdfast, conn: Session, gate: Gate, worker: Running) -> None:
    unknown = support.enqueue(conn, kind="nobody")
    (known,) = await gated(hf, gate)
    gate.open.set()
    await until(lambda: support.job(conn, known)["status"] == "succeeded")
    assert await worker.drained() == EXIT_STOPPED
    row = support.job(conn, unknown)
    assert (row["status"], row["lease"]) == ("queued", 0)


# Timeouts and cancels


async def test_an_async_handler_is_cancelled_at_its_timeout(hf: Holdfast, database: str, conn: Session) -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    kind = add(hf, slow, timeout=0.1, max_attempts=2)
    async with working(database, hf):
        job = await kind.enqueue()
        with pytest.raises(JobFailed, match=r"TimeoutError: not done after its timeout of 0\.1 s"):
            await job.result(timeout=20)
    assert ended == ["cleaned up"] * 2
    events = support.events(conn, job.id)
    assert [event["event"] for event in events] == ["failure"] * 2
    assert events[-1]["at"] - support.job(conn, job.id)["claimed_at"] >= timedelta(seconds=0.1)


async def test_a_thread_is_asked_to_end_at_its_timeout_and_counts_as_it_ends(
    hf: Holdfast, database: str, conn: Session
) -> None:
    def raises(ctx: Context) -> None:
        assert ctx.wait_cancelled(20)
        assert ctx.cancelled
        raise RuntimeError("gave up")

    def finishes(ctx: Context) -> str:
        assert ctx.wait_cancelled(20)
        return "done after all"

    one, two = (add(hf, each, timeout=0.1, max_attempts=1) for each in (raises, finishes))
    async with working(database, hf):
        first, second = await one.enqueue(), await two.enqueue()
        with pytest.raises(JobFailed, match="RuntimeError: gave up"):
            await first.result(timeout=20)
        assert await second.result(timeout=20) == "done after all"


async def test_a_running_job_can_be_cancelled(hf: Holdfast, conn: Session, gate: Gate, worker: Running) -> None:
    wanted, other = await gated(hf, gate, 2)
    assert [each.verdict for each in await hf.cancel([wanted])] == ["requested"]
    await until(lambda: support.job(conn, wanted)["status"] == "cancelled")
    assert [ctx.job_id for ctx in gate.cancelled] == [wanted]
    assert support.job(conn, wanted)["attempts"] == 0
    gate.open.set()
    await until(lambda: support.job(conn, other)["status"] == "succeeded")


async def test_a_handler_that_cleans_up_after_a_cancel_is_not_cancelled_again_by_each_beat(
    hf: Holdfast, database: str, conn: Session
) -> None:
    told: list[str] = []
    clean = asyncio.Event()

    async def tidy() -> None:
        told.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cleans up")
            await clean.wait()
            told.append("cleaned up")

    kind = add(hf, tidy)
    async with working(database, hf) as running:
        job = await kind.enqueue()
        await until(lambda: told)
        await job.cancel()
        await until(lambda: told[-1] == "cleans up")
        later = support.clock(conn) + timedelta(seconds=0.5)
        await until(lambda: support.worker(conn, running.id)["seen_at"] > later, "more beats have told of the cancel")
        clean.set()
        with pytest.raises(JobCancelled):
            await job.result(timeout=20)
    assert told == ["began", "cleans up", "cleaned up"]


async def test_a_handler_that_goes_on_after_its_transaction_is_cancelled_at_its_timeout(
    hf: Holdfast, database: str, conn: Session
) -> None:
    async def lingers(ctx: Context) -> None:
        async with ctx.transaction():
            pass
        await asyncio.Event().wait()

    async def next_one() -> int:
        return 1

    lingering, following = add(hf, lingers, timeout=0.2), add(hf, next_one)
    async with working(database, hf, slots=1):
        job = await lingering.enqueue()
        assert await (await following.enqueue()).result(timeout=20) == 1
    row = support.job(conn, job.id)
    assert (row["status"], row["lease"], support.events(conn, job.id)) == ("succeeded", 1, [])


async def test_a_cancelled_thread_decides_how_it_ends(hf: Holdfast, database: str) -> None:
    begun: list[str] = []

    def stops(ctx: Context) -> None:
        begun.append("stops")
        assert ctx.wait_cancelled(20)
        raise RuntimeError("stopped")

    def finishes(ctx: Context) -> int:
        begun.append("finishes")
        assert ctx.wait_cancelled(20)
        return 1

    one, two = add(hf, stops), add(hf, finishes)
    async with working(database, hf):
        jobs = [await one.enqueue(), await two.enqueue()]
        await until(lambda: len(begun) == 2)
        for job in jobs:
            await job.cancel()
        with pytest.raises(JobCancelled):
            await jobs[0].result(timeout=20)
        assert await jobs[1].result(timeout=20) == 1


# The end of a worker


async def test_drain_finishes_what_runs_and_claims_no_more(
    hf: Holdfast, conn: Session, gate: Gate, worker: Running
) -> None:
    (running,) = await gated(hf, gate)
    worker.worker.drain()
    waiting = support.enqueue(conn, kind="gated")
    await _gated(hf).enqueue(2)
    await until(lambda: support.worker(conn, worker.id)["draining"])
    gate.open.set()
    assert await asyncio.wait_for(worker.task, 20) == EXIT_STOPPED
    assert support.job(conn, running)["status"] == "succeeded"
    assert support.job(conn, waiting)["lease"] == 0
    row = support.worker(conn, worker.id)
    assert (row["gone_reason"], row["gone_is_crash"]) == ("stopped", False)
    assert [event.reason for event in worker.recorder.of(WorkerStopped)] == ["drained"]


async def test_what_does_not_finish_in_time_is_given_back_at_no_cost(
    hf: Holdfast, database: str, conn: Session, gate: Gate
) -> None:
    async with working(database, hf, drain_timeout=0.05) as running:
        ids = await gated(hf, gate, 3)
        before = {each: support.job(conn, each)["run_at"] for each in ids}
        assert await running.drained() == EXIT_STOPPED
    assert [(event.reason, event.released) for event in running.recorder.of(WorkerStopped)] == [("drained", 3)]
    assert len(gate.cancelled) == 3
    for each in ids:
        row = support.job(conn, each)
        assert (row["status"], row["attempts"], row["rescues"], row["settled_as"]) == ("queued", 0, 0, "release")
        assert row["run_at"] == before[each]
        assert support.events(conn, each) == []


async def test_a_drain_while_nothing_runs_ends_at_once(worker: Running, conn: Session) -> None:
    assert await worker.drained() == EXIT_STOPPED
    assert support.worker(conn, worker.id)["gone_reason"] == "stopped"


async def test_a_worker_presents_itself(worker: Running, conn: Session, hf: Holdfast) -> None:
    row = support.worker(conn, worker.id)
    assert (row["queues"], row["slots"], row["quarantine"]) == (["default"], 10, False)
    assert row["kinds"] == ["gated", "holdfast.canary"]
    assert row["lost_after"] == timedelta(seconds=25)
    assert len(worker.recorder.of(WorkerStarted)) == 1


async def test_an_idle_worker_may_end_by_itself(hf: Holdfast, database: str, gate: Gate) -> None:
    async with working(database, hf, idle_exit=0.1) as running:
        assert await asyncio.wait_for(running.task, 20) == EXIT_STOPPED


async def test_an_id_that_is_gone_cannot_be_used_again(hf: Holdfast, database: str, conn: Session, gate: Gate) -> None:
    from holdfast.errors import WorkerGone

    worker_id = support.register(conn)
    support.mark_gone(conn, worker_id)
    with pytest.raises(WorkerGone, match=str(worker_id)):
        await Worker(database, hf.kinds, worker_settings(hf), worker_id=worker_id).run()


async def test_a_handler_that_ignores_its_cancellation_condemns_the_worker(
    hf: Holdfast, database: str, conn: Session, gate: Gate
) -> None:
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    kind = add(hf, stubborn, timeout=0.05)
    async with working(database, hf, condemn_after=0.1) as running:
        try:
            job = await kind.enqueue()
            (told,) = await until(lambda: running.recorder.of(WorkerCondemned))
            later = await _gated(hf).enqueue()
        finally:
            released.set()
        assert await asyncio.wait_for(running.task, 20) == EXIT_STOPPED
    assert str(job.id) in str(told)
    assert await later.status() == "queued"


# Leases that are lost


async def test_a_zombie_stops_writes_nothing_and_says_that_it_is_gone(
    hf: Holdfast, database: str, conn: Session
) -> None:
    began: list[Context] = []
    ended: list[str] = []
    late: list[BaseException] = []

    async def obeys(ctx: Context) -> None:
        began.append(ctx)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("obeys")

    async def insists(ctx: Context) -> str:
        began.append(ctx)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await ctx.progress("late")
            except LeaseLost as error:
                late.append(error)
        ended.append("insists")
        return "late"

    def in_a_thread(ctx: Context) -> str:
        began.append(ctx)
        assert ctx.wait_cancelled(20)
        ended.append("in_a_thread")
        return "late"

    kinds = [add(hf, each) for each in (obeys, insists, in_a_thread)]
    async with working(database, hf) as running:
        ids = [(await kind.enqueue()).id for kind in kinds]
        await until(lambda: len(began) == 3)
        assert support.mark_gone(conn, running.id) == {running.id: "gone"}
        support.rescue(conn)
        taken: dict[UUID, Row] = {each: support.job(conn, each) for each in ids}
        assert {row["lease"] for row in taken.values()} == {2}
        assert await asyncio.wait_for(running.task, 20) == EXIT_GONE
    assert sorted(ended) == ["in_a_thread", "insists", "obeys"]
    assert len(late) == 1
    assert {each: support.job(conn, each) for each in ids} == taken
    assert {event["event"] for each in ids for event in support.events(conn, each)} == {"crash"}
    assert [event.reason for event in running.recorder.of(WorkerStopped)] == ["gone"]
    assert support.worker(conn, running.id)["gone_reason"] == "crashed"


async def test_an_idle_worker_that_was_declared_gone_ends_too(worker: Running, conn: Session) -> None:
    support.mark_gone(conn, worker.id)
    assert await asyncio.wait_for(worker.task, 20) == EXIT_GONE


async def test_a_run_whose_lease_was_taken_stops_and_the_others_go_on(
    hf: Holdfast, conn: Session, gate: Gate, worker: Running
) -> None:
    lost, held = await gated(hf, gate, 2)
    conn.execute("UPDATE holdfast.jobs SET run_at = holdfast.clock() + interval '1 hour' WHERE id = %s", (lost,))
    support.release_lost_claims(conn, worker.id, support.job(conn, lost))
    await until(lambda: gate.cancelled)
    gate.open.set()
    await until(lambda: support.job(conn, held)["status"] == "succeeded")
    assert [(event.job_id, event.lease, event.found_by) for event in worker.recorder.of(LeaseWasLost)] == [
        (lost, 1, "beat")
    ]
    row = support.job(conn, lost)
    assert (row["status"], row["lease"], row["attempts"]) == ("queued", 2, 0)


async def test_a_claim_whose_answer_was_lost_is_given_back_and_run_later(
    hf: Holdfast, relay: Relay, conn: Session, gate: Gate
) -> None:
    gate.open.set()
    lost = relay.lose_answer(b"holdfast.claim(")
    job = support.enqueue(conn, kind="gated")
    async with working(relay.dsn, hf, unknown_after=0.3, poll=60) as running:
        await until(lost.is_set)
        await until(lambda: support.job(conn, job)["status"] == "succeeded")
        assert running.recorder.of(LedgerLost)[0].what == "claim"
    row = support.job(conn, job)
    assert (row["attempts"], row["lease"]) == (0, 3)
    (event,) = support.events(conn, job)
    assert (event["event"], event["reason"], event["lease"]) == ("rescue", "claim_lost", 1)
    assert [ctx.lease for ctx in gate.passed] == [3]


async def test_a_claim_that_is_too_large_for_its_network_is_repeated_in_smaller_ones(
    hf: Holdfast, relay: Relay, conn: Session
) -> None:
    async def weigh(text: str) -> int:
        return len(text)

    kind = add(hf, weigh)
    jobs = await hf.enqueue_many(kind.prepare("x" * 100_000) for _ in range(12))
    relay.most = 350_000
    async with working(relay.dsn, hf, slots=12, unknown_after=0.3):
        assert [await job.result(timeout=60) for job in jobs] == [100_000] * 12
    events = [event for job in jobs for event in support.events(conn, job.id)]
    assert {event["reason"] for event in events} == {"claim_lost"}


async def test_what_a_claim_brought_is_known_while_the_worker_asks_whether_there_is_more(
    hf: Holdfast, relay: Relay, conn: Session, gate: Gate
) -> None:
    ids = [support.enqueue(conn, kind="gated") for _ in range(3)]
    # Two are claimed, the third behind them, and then nothing from the front: that last answer is late.
    asking = relay.keep_back(b"holdfast.claim(", after=2)
    async with working(relay.dsn, hf, batch=2, slots=4, unknown_after=0.3, poll=60) as running:
        await until(asking.reached.is_set)
        await until(lambda: len(gate.came) == 3, "all three have begun")
        late = support.clock(conn) + timedelta(seconds=0.5)
        await until(lambda: support.worker(conn, running.id)["seen_at"] > late, "beats have judged the third")
        asking.let_go.set()
        gate.open.set()
        await until(lambda: {support.job(conn, each)["status"] for each in ids} == {"succeeded"})
    assert [support.job(conn, each)["lease"] for each in ids] == [1, 1, 1]
    assert [support.events(conn, each) for each in ids] == [[], [], []]


async def test_a_look_at_the_front_whose_answer_is_lost_is_repeated_without_waiting_for_the_next_poll(
    hf: Holdfast, relay: Relay, conn: Session, gate: Gate
) -> None:
    gate.open.set()
    async with working(relay.dsn, hf, batch=2, slots=4, poll=60) as running:
        await until(lambda: listening(conn, running))
        await (await _gated(hf).enqueue()).result(timeout=20)
        ids = [support.enqueue(conn, kind="gated") for _ in range(3)]
        asking = relay.keep_back(b"holdfast.claim(", after=2)  # two, the third behind them, and then the front
        conn.execute("SELECT pg_notify('holdfast_bell', 'default')")
        await until(lambda: {support.job(conn, each)["status"] for each in ids} == {"succeeded"})
        await until(asking.reached.is_set)
        urgent = support.enqueue(conn, kind="gated", priority=-5)
        await relay.cut("holdfast worker")
        await until(lambda: support.job(conn, urgent)["status"] == "succeeded", seconds=15)


async def test_a_claim_that_could_not_be_sent_is_repeated_without_waiting_for_the_next_bell(
    hf: Holdfast, relay: Relay, conn: Session, gate: Gate
) -> None:
    gate.open.set()
    async with working(relay.dsn, hf, poll=60) as running:
        await until(lambda: listening(conn, running))
        await (await _gated(hf).enqueue()).result(timeout=20)
        lost = relay.lose_request(b"holdfast.claim(")
        job = await _gated(hf).enqueue()
        await until(lambda: support.job(conn, job.id)["status"] == "succeeded")
    assert lost.is_set()
    assert support.job(conn, job.id)["lease"] == 1


class EarlyFence(LeaseTimings):
    """Stops early and exits late, so that a busy machine ends no test by its exit."""

    @property
    def stop_claiming_after(self) -> float:
        return 0.6

    @property
    def cancel_after(self) -> float:
        return 0.9


EARLY_FENCE = EarlyFence(beat_interval=0.1, lost_after=60.0)


def trusts(running: Running) -> list[str]:
    return [event.trust for event in running.recorder.of(TrustChanged)]


async def test_a_claim_under_way_when_the_fence_falls_is_given_back_unstarted(
    hf: Holdfast, relay: Relay, conn: Session, gate: Gate
) -> None:
    gate.open.set()
    async with working(relay.dsn, hf, timings=EARLY_FENCE, stale_after=600, poll=60) as running:
        await until(lambda: listening(conn, running))
        await (await _gated(hf).enqueue()).result(timeout=20)
        gate.came.clear()
        relay.hold("holdfast worker")
        job = (await _gated(hf).enqueue()).id
        await until(lambda: support.job(conn, job)["status"] == "running", "the claim has been carried out")
        relay.hold("holdfast beat")
        await until(lambda: Trust.STOP_CLAIMING in trusts(running))
        relay.let_go("holdfast worker")
        await until(lambda: support.job(conn, job)["status"] == "queued", "the claim has been given back")
        row = support.job(conn, job)
        assert (row["lease"], row["attempts"], row["settled_as"]) == (1, 0, "release")
        assert gate.came == []
        relay.let_go("holdfast beat")
        await until(lambda: Trust.HEALTHY in trusts(running))
        await _gated(hf).enqueue()
        await until(lambda: support.job(conn, job)["status"] == "succeeded", "the worker is trusted again")
    assert support.job(conn, job)["lease"] == 2


async def test_handlers_are_cancelled_when_beats_stop_and_their_jobs_given_back_at_no_cost(
    hf: Holdfast, relay: Relay, conn: Session, gate: Gate
) -> None:
    async with working(relay.dsn, hf, timings=EARLY_FENCE, stale_after=600) as running:
        (job,) = await gated(hf, gate)
        relay.hold("holdfast beat")
        await until(lambda: gate.cancelled)
        assert trusts(running)[-1] == Trust.CANCEL
        await until(lambda: support.job(conn, job)["status"] == "queued")
        row = support.job(conn, job)
        assert (row["attempts"], row["settled_as"], row["lease"]) == (0, "release", 1)
        assert len(gate.came) == 1
        relay.let_go("holdfast beat")
        gate.open.set()
        await until(lambda: support.job(conn, job)["status"] == "succeeded")


async def test_a_stop_before_the_handler_s_first_step_gives_the_job_back(
    hf: Holdfast, conn: Session, gate: Gate, worker: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.services.run import StopReason

    take = worker.worker._take

    def take_and_stop(job: Any, may_begin: bool) -> None:
        take(job, may_begin)
        if job.lease == 1:
            worker.worker._runs[job.id].stop(StopReason.FENCED)

    monkeypatch.setattr(worker.worker, "_take", take_and_stop)
    gate.open.set()
    job = await _gated(hf).enqueue(5)
    assert await job.result(timeout=20) == 5
    assert [ctx.lease for ctx in gate.came] == [2]
    assert support.job(conn, job.id)["attempts"] == 0
    assert worker.worker._runs == {}


async def test_a_slot_is_free_when_its_handler_has_ended_though_its_result_waits(
    hf: Holdfast, database: str, conn: Session, gate: Gate
) -> None:
    async with working(database, hf, slots=1) as running:
        (first,) = await gated(hf, gate)
        with support.open_session(database) as somebody, somebody.transaction():
            somebody.execute("SELECT FROM holdfast.jobs WHERE id = %s FOR UPDATE", (first,))
            gate.open.set()
            second = await _gated(hf).enqueue(2)
            await until(lambda: len(gate.passed) == 2)
            # No more results wait than there are slots.
            third = await _gated(hf).enqueue(3)
            await until(lambda: len(running.worker._runs) == 2)
            assert support.job(conn, third.id)["status"] == "queued"
            assert running.worker._free_slots() == 0
        assert await third.result(timeout=20) == 3
    assert await second.result(timeout=20) == 2
    assert {support.job(conn, each)["lease"] for each in (first, second.id, third.id)} == {1}


async def test_results_of_an_outage_are_told_when_it_is_over(
    hf: Holdfast, relay: Relay, conn: Session, gate: Gate
) -> None:
    async with working(relay.dsn, hf) as running:
        ids = await gated(hf, gate, 3)
        await relay.down()
        gate.open.set()
        await until(lambda: len(gate.passed) == 3)
        await until(lambda: any(event.what == "settle" for event in running.recorder.of(LedgerLost)))
        assert {support.job(conn, each)["status"] for each in ids} == {"running"}
        # The watchdog ends a process for handlers that run, not for results that wait.
        assert running.worker._handlers_running() == 0
        await relay.up()
        await until(lambda: {support.job(conn, each)["status"] for each in ids} == {"succeeded"})
    assert {support.job(conn, each)["lease"] for each in ids} == {1}


# Order and number


async def test_the_lowest_priority_number_runs_first_and_equals_in_their_order(hf: Holdfast, database: str) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    kind = add(hf, note)
    jobs = []
    for n, priority in enumerate([5, 0, -5, 0, 5, -5]):
        jobs.append(await kind.options(priority=priority).enqueue(n))
    async with working(database, hf, slots=1):
        for job in jobs:
            await job.result(timeout=20)
    assert ran == [2, 5, 1, 3, 0, 4]


async def test_there_are_never_more_runs_than_slots(hf: Holdfast, conn: Session, database: str, gate: Gate) -> None:
    async with working(database, hf, slots=3, poll=0.05):
        jobs = await hf.enqueue_many(_gated(hf).prepare(n) for n in range(12))
        await until(lambda: len(gate.came) == 3)
        await _gated(hf).options(priority=-1).enqueue(99)
        running = support.rows(conn, "SELECT FROM holdfast.jobs WHERE status = 'running'")
        assert (len(running), len(gate.came)) == (3, 3)
        now = most = 0

        async def counted(ctx: Context) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

        gate.passing = counted  # type: ignore[method-assign]
        gate.open.set()
        assert sorted(await asyncio.gather(*(job.result(timeout=20) for job in jobs))) == list(range(12))
    assert 1 <= most <= 3


async def test_two_jobs_of_a_group_never_run_at_once_and_other_groups_do_not_wait(hf: Holdfast, database: str) -> None:
    spans: dict[str, list[tuple[float, float]]] = {"a": [], "b": []}

    async def work(group: str) -> None:
        begin = time.monotonic()
        await asyncio.sleep(0.01)
        spans[group].append((begin, time.monotonic()))

    kind = add(hf, work)
    jobs = []
    for n in range(10):
        group = "ab"[n % 2]
        jobs.append(await kind.options(group_key=group).enqueue(group))
    async with working(database, hf, poll=0.05), working(database, hf, poll=0.05):
        await asyncio.gather(*(job.result(timeout=30) for job in jobs))
    assert [len(each) for each in spans.values()] == [5, 5]
    assert [at_most_at_once(each) for each in spans.values()] == [1, 1]


async def test_a_kind_s_limit_holds_over_all_workers(hf: Holdfast, database: str) -> None:
    spans: list[tuple[float, float]] = []

    async def work() -> None:
        begin = time.monotonic()
        await asyncio.sleep(0.02)
        spans.append((begin, time.monotonic()))

    kind = add(hf, work, limit=2)
    jobs = await hf.enqueue_many(kind.prepare() for _ in range(8))
    async with working(database, hf, poll=0.05), working(database, hf, poll=0.05):
        await asyncio.gather(*(job.result(timeout=30) for job in jobs))
    assert len(spans) == 8
    assert at_most_at_once(spans) == 2


# Bells


def listening(conn: Session, running: Running) -> bool:
    return bool(
        support.rows(
            conn,
            "SELECT FROM pg_stat_activity WHERE application_name = %s AND query LIKE 'LISTEN%%' AND state = 'idle'",
            f"holdfast bell {running.id}",
        )
    )


def claimed_at(conn: Session, queue: str = "default") -> Any:
    return support.row(conn, "SELECT claimed_at FROM holdfast.queues WHERE name = %s", queue)["claimed_at"]


async def test_a_bell_wakes_an_idle_worker(hf: Holdfast, database: str, conn: Session, gate: Gate) -> None:
    gate.open.set()
    async with working(database, hf, poll=60) as running:
        await until(lambda: listening(conn, running))
        for n in range(3):
            assert await (await _gated(hf).enqueue(n)).result(timeout=20) == n
        assert _gated(hf).enqueue_sync(7).created
        await until(lambda: len(gate.passed) == 4)


async def test_a_job_for_a_time_that_has_passed_is_rung_for(
    hf: Holdfast, database: str, conn: Session, gate: Gate
) -> None:
    gate.open.set()
    async with working(database, hf, poll=60) as running:
        await until(lambda: listening(conn, running))
        await (await _gated(hf).enqueue()).result(timeout=20)
        late = _gated(hf).options(run_at=datetime.now(UTC) - timedelta(hours=1))
        assert await (await late.enqueue(2)).result(timeout=10) == 2


async def test_polling_finds_jobs_that_nobody_rang_for(hf: Holdfast, database: str, conn: Session, gate: Gate) -> None:
    gate.open.set()
    async with working(database, hf, poll=0.1) as running:
        await until(lambda: listening(conn, running) and claimed_at(conn))
        for _ in range(2):
            job = support.enqueue(conn, kind="gated")
            await until(lambda: support.job(conn, job)["status"] == "succeeded")  # noqa: B023


async def test_a_bell_for_another_queue_wakes_nobody(hf: Holdfast, database: str, conn: Session, gate: Gate) -> None:
    gate.open.set()
    async with working(database, hf, poll=60) as running:
        await until(lambda: listening(conn, running))
        first = await _gated(hf).enqueue()
        await first.result(timeout=20)
        asked = running.worker._front.looked_at
        conn.execute("SELECT pg_notify('holdfast_bell', 'elsewhere')")
        conn.execute("SELECT pg_notify('holdfast_bell', 'elsewhere')")
        heard_nothing = not running.worker._rung
        assert heard_nothing
        assert running.worker._front.looked_at == asked
        assert await (await _gated(hf).enqueue(2)).result(timeout=20) == 2


async def test_more_jobs_than_slots_are_all_claimed_without_a_poll(hf: Holdfast, database: str, gate: Gate) -> None:
    gate.open.set()
    jobs = await hf.enqueue_many(_gated(hf).prepare(n) for n in range(300))
    async with working(database, hf, poll=60, slots=4, batch=3):
        assert await asyncio.gather(*(job.result(timeout=30) for job in jobs)) == list(range(300))


async def test_where_the_front_of_the_queue_is_slow_it_is_looked_at_seldom_and_not_forgotten(
    hf: Holdfast, database: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before the last job that was claimed is seen at the next look at the front, not at the next poll."""
    monkeypatch.setattr("holdfast.services.front.front_pause", lambda took, *, quickest: 0.7)
    gate.open.set()
    async with working(database, hf, poll=60) as running:
        assert await (await _gated(hf).enqueue(1)).result(timeout=20) == 1
        at = running.worker._front.looked_at
        assert await (await _gated(hf).options(priority=-5).enqueue(2)).result(timeout=10) == 2
        assert running.worker._front.looked_at >= at + 0.7


# Start and stop


async def test_starting_and_stopping_over_and_over_leaves_nothing_behind(
    hf: Holdfast, database: str, conn: Session, gate: Gate
) -> None:
    gate.open.set()
    await hf.enqueue_many(_gated(hf).prepare(n) for n in range(40))
    await hf.close()
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    for _ in range(5):
        worker = Worker(database, hf.kinds, worker_settings(hf, slots=2), worker_id=new_id())
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0)
        worker.drain()
        assert await asyncio.wait_for(running, 20) == EXIT_STOPPED
    assert len(asyncio.all_tasks()) == tasks
    await until(lambda: threading.active_count() <= threads)
    of_ours = "SELECT application_name, query FROM pg_stat_activity WHERE application_name LIKE 'holdfast %'"
    await until(lambda: support.rows(conn, of_ours) == [], "all connections are closed", seconds=5)
    states = support.rows(conn, "SELECT status, attempts, count(*) FROM holdfast.jobs GROUP BY 1, 2")
    assert {(state["status"], state["attempts"]) for state in states} <= {("queued", 0), ("succeeded", 0)}
    gone = support.rows(conn, "SELECT gone_reason FROM holdfast.workers")
    assert [each["gone_reason"] for each in gone] == ["stopped"] * 5
