"""`Holdfast` as a program uses it: enqueue, wait, cancel, retry, close, on a real Postgres."""

import asyncio
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from unittest import mock
from uuid import UUID

import pytest

from holdfast import (
    ConfigurationError,
    DatabaseUnavailable,
    Holdfast,
    InvalidArguments,
    InvalidResult,
    JobCancelled,
    JobFailed,
    JobNotFound,
    ResultTimeout,
    RetryPolicy,
    SchemaMismatch,
)
from holdfast.app import new_id
from holdfast.core.options import Options
from holdfast.errors import InvalidValue
from holdfast.handles import Job, JobKind
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.waiter import Waiter
from holdfast.testing import inline
from tests import support
from tests.cli.command import eventually
from tests.services.helpers import Relay, app_on, relay_to, until
from tests.support import Session


@pytest.fixture
async def hf(database: str) -> AsyncIterator[Holdfast]:
    async with app_on(database) as app:
        yield app


@pytest.fixture
async def relay(database: str) -> AsyncIterator[Relay]:
    async with relay_to(database) as running:
        yield running


def mail_kind(app: Holdfast, **options: Any) -> JobKind[..., Any]:
    @app.job(**options)
    async def mail(to: str, copies: int = 1) -> Any:
        return f"{copies} to {to}"

    return mail


def jobs(conn: Session) -> list[support.Row]:
    return support.rows(conn, "SELECT * FROM holdfast.jobs ORDER BY id")


def run(conn: Session, outcome: str = "complete", *, queue: str = "default", kind: str = "mail", **given: Any) -> UUID:
    """Somebody claims one job and ends it."""
    worker = support.register(conn)
    claimed = support.claim_one(conn, worker, queues=[queue], kinds=[kind])
    assert support.settle(conn, worker, claimed, outcome, **given) == "applied"
    return UUID(str(claimed["id"]))


# Enqueue


async def test_what_was_not_prepared_is_refused_before_anything_is_written(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf)
    given: list[tuple[Any, str]] = [
        ("x", "send_mail.prepare(...) makes them; item 1 is 'x'"),
        (kind, "mail.prepare(...) makes them; item 1 is JobKind(mail)"),
    ]
    for wrong, complaint in given:
        with pytest.raises(InvalidArguments, match=re.escape(complaint)):
            await hf.enqueue_many([kind.prepare("ann"), wrong])
        with pytest.raises(InvalidArguments, match=re.escape(complaint)):
            hf.enqueue_many_sync([kind.prepare("ann"), wrong])
        with inline(hf), pytest.raises(InvalidArguments, match=re.escape(complaint)):
            await hf.enqueue_many([kind.prepare("ann"), wrong])
    assert jobs(conn) == []


async def test_a_job_is_committed_when_enqueue_returns(hf: Holdfast, conn: Session) -> None:
    job = await mail_kind(hf).enqueue("ann", copies=2)
    (row,) = jobs(conn)
    assert (row["id"], row["kind"], row["queue"], row["status"]) == (job.id, "mail", "default", "queued")
    assert row["args"] == {"to": "ann", "copies": 2}
    assert (row["priority"], row["max_attempts"], row["max_crashes"]) == (0, 5, 3)
    assert row["timeout"] == timedelta(hours=1)
    assert job.created
    assert job.id.version == 7


async def test_the_policy_of_a_kind_is_on_its_jobs_rows(hf: Holdfast, conn: Session) -> None:
    policy = RetryPolicy(base=3, factor=4, cap=50, jitter=0)
    kind = mail_kind(
        hf, name="letters", queue="post", priority=-7, max_attempts=2, max_crashes=4, retry=policy, timeout=None,
        silent_after=9, rescue="dead", limit=3,
    )  # fmt: skip
    await kind.enqueue("ann")
    (row,) = jobs(conn)
    assert (row["kind"], row["queue"], row["priority"]) == ("letters", "post", -7)
    assert (row["max_attempts"], row["max_crashes"], row["rescue_policy"]) == (2, 4, "dead")
    assert (row["timeout"], row["silent_after"], row["limit_max"]) == (None, timedelta(seconds=9), 3)
    assert row["limit_key"] == "letters"
    assert row["retry_policy"] == policy.as_json()


async def test_options_of_one_job_are_on_its_row(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf, priority=-3, limit=2)
    options: list[dict[str, Any]] = [
        {"queue": "other"},
        {"priority": 5},
        {"priority": 0},
        {"run_at": datetime(2031, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5)))},
        {"unique_key": "u'1 ✓"},
        {"group_key": "g"},
        {"limit_key": "l"},
        {"id": UUID(int=12345)},
    ]
    usual = {"queue": "default", "priority": -3, "unique_key": None, "group_key": None, "limit_key": "mail"}
    for each in options:
        job = await kind.options(**each).enqueue("ann")
        row = support.job(conn, job.id)
        expected = {**usual, **each}
        assert {name: row[name] for name in expected} == expected


async def test_a_delay_is_counted_on_the_ledger_s_clock(hf: Holdfast, conn: Session) -> None:
    await mail_kind(hf).options(delay=90).enqueue("ann")
    (row,) = jobs(conn)
    assert row["run_at"] - row["created_at"] == timedelta(seconds=90)


async def test_options_add_up_and_leave_the_kind_as_it_was(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf)
    await kind.options(queue="a", priority=1).options(priority=2, group_key="g").enqueue("ann")
    await kind.enqueue("bob")
    found = [(row["queue"], row["priority"], row["group_key"]) for row in jobs(conn)]
    assert found == [("a", 2, "g"), ("default", 0, None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_at": datetime(2031, 1, 1)}, "names no time zone"),  # noqa: DTZ001
        ({"run_at": datetime(2031, 1, 1, tzinfo=UTC), "delay": 1}, "run_at or delay, not both"),
        ({"run_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}, "years 2 to 9998"),
        ({"run_at": datetime.max.replace(tzinfo=UTC)}, "years 2 to 9998"),
        ({"delay": -1}, "delay is -1"),
        ({"delay": float("nan")}, "delay is nan"),
        ({"delay": 1e18}, "delay is 1e"),
        ({"priority": 1001}, "priority is 1001"),
        ({"queue": ""}, "queue is ''"),
        ({"unique_key": "x" * 201}, "unique_key is 'xxx"),
        ({"group_key": "a\x00b"}, "group_key is .*no NUL"),
        ({"limit_key": "\ud800"}, "limit_key is .*no lone surrogates"),
    ],
)
def test_options_that_the_ledger_cannot_hold_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        mail_kind(Holdfast()).options(**options)


async def test_bad_arguments_are_refused_before_anything_is_sent(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf)
    bad: list[Any] = [3, None, "a\x00b", "\ud800", "x" * 1_100_000]
    for to in bad:
        with pytest.raises(InvalidArguments):
            await kind.enqueue(to)
        with pytest.raises(InvalidArguments):
            kind.enqueue_sync(to)
        with pytest.raises(InvalidArguments):
            await hf.enqueue_many(kind.prepare(each) for each in ("ann", to))
    assert jobs(conn) == []


async def test_many_jobs_are_written_in_order_with_their_own_kinds_and_policies(hf: Holdfast, conn: Session) -> None:
    one = mail_kind(hf)

    @hf.job(queue="slow", max_attempts=1)
    def report(number: int) -> None: ...

    prepared = [one.prepare(f"u{n}") if n % 3 else report.prepare(n) for n in range(2_345)]
    handles = await hf.enqueue_many(iter(prepared))
    assert [(job.id, job.kind) for job in handles] == [(job.id, job.kind) for job in prepared]
    rows = {row["id"]: row for row in jobs(conn)}
    assert len(rows) == 2_345
    for number, job in enumerate(prepared):
        expected = ({"to": f"u{number}", "copies": 1}, 5) if number % 3 else ({"number": number}, 1)
        assert (rows[job.id]["args"], rows[job.id]["max_attempts"]) == expected


async def test_a_transaction_that_fails_is_told_and_the_same_jobs_may_be_given_again(
    hf: Holdfast, conn: Session
) -> None:
    kind = mail_kind(hf)
    prepared = [kind.prepare(f"u{n}") for n in range(3_500)]
    bad = prepared[1_500]._replace(kind="x" * 201)
    with pytest.raises(InvalidValue, match="kind must have 1 to 200 characters"):
        await hf.enqueue_many([*prepared[:1_500], bad, *prepared[1_501:]])
    written = {row["id"] for row in jobs(conn)}
    assert {job.id for job in prepared[:1_000]} <= written
    assert not {job.id for job in prepared[1_000:2_000]} & written
    assert all(job.created for job in await hf.enqueue_many(prepared))
    assert len(jobs(conn)) == 3_500


async def test_a_unique_job_with_the_nil_id_is_the_answer_for_itself_alone(hf: Holdfast) -> None:
    kind = mail_kind(hf)
    nil = UUID(int=0)
    await kind.options(id=nil, unique_key="once").enqueue("ann")
    second = await kind.options(unique_key="once").enqueue("ann")
    assert (second.id, second.created) == (nil, False)


async def test_no_jobs_are_no_trouble(hf: Holdfast) -> None:
    assert await hf.enqueue_many([]) == []
    assert hf.enqueue_many_sync([]) == []


def test_programs_without_an_event_loop_have_the_same(database: str, conn: Session) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)
    first = kind.options(unique_key="one").enqueue_sync("ann")
    second = kind.options(unique_key="one").enqueue_sync("bob")
    many = hf.enqueue_many_sync(kind.prepare(f"u{n}") for n in range(1_100))
    hf.close_sync()
    assert (first.created, second.created, second.id) == (True, False, first.id)
    assert {row["id"] for row in jobs(conn)} == {first.id, *(job.id for job in many)}
    to = {row["id"]: row["args"]["to"] for row in jobs(conn)}
    assert [to[job.id] for job in many] == [f"u{n}" for n in range(1_100)]


def test_threads_may_enqueue_at_the_same_time(database: str, conn: Session) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)
    threads = [threading.Thread(target=kind.enqueue_sync, args=(f"u{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hf.close_sync()
    assert {row["args"]["to"] for row in jobs(conn)} == {f"u{n}" for n in range(20)}


def test_calling_a_kind_runs_the_plain_function() -> None:
    hf = Holdfast()

    @hf.job()
    def add(a: int, b: int) -> int:
        return a + b

    assert add(2, b=3) == 5
    assert add.name == "add"


# Once and only once


async def test_a_unique_key_that_is_queued_or_running_gives_the_handle_of_that_job(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf).options(unique_key="ann")
    first, second = await kind.enqueue("ann"), await kind.enqueue("other")
    assert (first.created, second.created, second.id) == (True, False, first.id)
    run(conn)
    third = await kind.enqueue("ann")
    assert third.created
    assert third.id != first.id


async def test_a_unique_key_is_unique_within_its_kind_only(hf: Holdfast, conn: Session) -> None:
    @hf.job()
    def other() -> None: ...

    await mail_kind(hf).options(unique_key="x").enqueue("ann")
    assert (await other.options(unique_key="x").enqueue()).created


async def test_the_same_unique_key_many_times_in_one_call_is_one_job(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf).options(unique_key="x")
    handles = await hf.enqueue_many(kind.prepare(f"u{n}") for n in range(5))
    assert len({job.id for job in handles}) == 1
    assert [job.created for job in handles].count(True) == 1
    assert len(jobs(conn)) == 1


async def test_an_id_given_twice_is_one_job_with_the_first_arguments(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf).options(id=new_id())
    first, second = await kind.enqueue("ann"), await kind.enqueue("bob")
    assert first.id == second.id
    assert [row["args"]["to"] for row in jobs(conn)] == ["ann"]


@pytest.mark.parametrize(
    ("options", "statement"), [({}, b"holdfast.enqueue("), ({"priority": 3}, b"holdfast.enqueue_many(")]
)
async def test_an_enqueue_whose_answer_was_lost_is_written_once(
    relay: Relay, conn: Session, options: dict[str, Any], statement: bytes
) -> None:
    async with app_on(relay.dsn) as hf:
        lost = relay.lose_answer(statement)
        job = await mail_kind(hf).options(**options).enqueue("ann")
        assert lost.is_set()
    assert [row["id"] for row in jobs(conn)] == [job.id]
    assert job.created


async def test_the_blocking_twin_writes_once_too_when_its_answer_was_lost(relay: Relay, conn: Session) -> None:
    hf = app_on(relay.dsn)
    lost = relay.lose_answer(b"holdfast.enqueue(")
    job = await asyncio.to_thread(mail_kind(hf).enqueue_sync, "ann")
    assert lost.is_set()
    await asyncio.to_thread(hf.close_sync)
    assert [row["id"] for row in jobs(conn)] == [job.id]


async def test_a_bell_that_cannot_be_rung_fails_no_enqueue(relay: Relay, conn: Session) -> None:
    hf = app_on(relay.dsn)
    kind = mail_kind(hf)
    lost = relay.lose_answer(b"pg_notify(")
    await asyncio.to_thread(kind.enqueue_sync, "ann")
    assert lost.is_set()
    lost = relay.lose_answer(b"pg_notify(")
    await kind.enqueue("bob")
    await hf.close()
    assert lost.is_set()
    assert len(jobs(conn)) == 2


async def test_a_hundred_callers_share_round_trips_and_one_connection(relay: Relay, conn: Session) -> None:
    async with app_on(relay.dsn) as hf:
        kind = mail_kind(hf)
        handles = await asyncio.gather(*(kind.enqueue(f"u{n}") for n in range(100)))
    assert relay.count(b"holdfast.enqueue") <= 5
    assert relay.connected("holdfast app") == 1
    to = {row["id"]: row["args"]["to"] for row in jobs(conn)}
    assert [to[job.id] for job in handles] == [f"u{n}" for n in range(100)]


async def test_a_caller_that_gives_up_does_not_harm_those_who_share_its_round_trip(hf: Holdfast) -> None:
    kind = mail_kind(hf)
    tasks = [asyncio.create_task(kind.enqueue(f"u{n}")) for n in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [n for n, each in enumerate(done) if isinstance(each, BaseException)] == [3]


# Result


async def test_the_result_is_what_the_handler_returned(hf: Holdfast, conn: Session) -> None:
    job = await mail_kind(hf).enqueue("ann")
    waiting = asyncio.create_task(job.result(timeout=20))
    run(conn, result={"sent": [1, None, "x"]})
    assert await waiting == {"sent": [1, None, "x"]}
    assert await job.result() == {"sent": [1, None, "x"]}
    assert await job.status() == "succeeded"


async def test_waiting_for_a_dead_job_raises_its_error(hf: Holdfast, conn: Session) -> None:
    job = await mail_kind(hf).enqueue("ann")
    run(conn, "fail", error={"type": "KeyError", "message": "no such user"})
    with pytest.raises(JobFailed, match=rf"job {job.id} \(mail\) is dead: KeyError: no such user"):
        await job.result(timeout=20)


async def test_waiting_for_a_cancelled_job_says_so(hf: Holdfast) -> None:
    job = await mail_kind(hf).enqueue("ann")
    assert await job.cancel() == "cancelled"
    with pytest.raises(JobCancelled, match=str(job.id)):
        await job.result(timeout=20)


async def test_a_result_that_does_not_come_in_time_raises_and_the_job_goes_on(hf: Holdfast, conn: Session) -> None:
    job = await mail_kind(hf).enqueue("ann")
    with pytest.raises(ResultTimeout, match=r"had not ended after 0\.05 s; it goes on") as caught:
        await job.result(timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert await job.status() == "queued"
    run(conn, result=1)
    assert await job.result(timeout=20) == 1


async def test_many_waiters_share_one_statement(relay: Relay, conn: Session) -> None:
    async with app_on(relay.dsn) as hf:
        kind = mail_kind(hf)
        handles: list[Job[Any]] = await hf.enqueue_many(kind.prepare(f"u{n}") for n in range(200))
        waiting = asyncio.gather(*(job.result(timeout=30) for job in handles for _ in range(2)))
        await until(lambda: relay.connected("holdfast wait"))
        worker = support.register(conn)
        claimed = support.claim(conn, worker, 200, kinds=["mail"])
        support.settle_many(conn, worker, [(each["id"], each["lease"], "complete") for each in claimed])
        assert await waiting == [None] * 400
        assert relay.connected("holdfast wait") == 1


async def test_closing_ends_the_wait_of_who_still_waits(hf: Holdfast) -> None:
    job = await mail_kind(hf).enqueue("ann")
    waiting = asyncio.create_task(job.result())
    await until(lambda: any(client.waiter._waiting for client in hf._clients.values()))
    await hf.close()
    with pytest.raises(DatabaseUnavailable, match="the job goes on"):
        await asyncio.wait_for(waiting, 20)


async def test_a_result_comes_back_in_the_type_that_the_handler_names(hf: Holdfast, conn: Session) -> None:
    @hf.job(name="mail")
    async def typed(to: str) -> tuple[datetime, set[str], UUID]:
        raise NotImplementedError

    at = datetime(2031, 1, 2, tzinfo=UTC)
    job = await typed.enqueue("ann")
    run(conn, result=[at.isoformat(), ["a", "b"], str(UUID(int=7))])
    assert await job.result(timeout=20) == (at, {"a", "b"}, UUID(int=7))


async def test_a_result_that_no_longer_fits_its_annotation_is_told(hf: Holdfast, conn: Session) -> None:
    @hf.job(name="mail")
    async def typed(to: str) -> int:
        raise NotImplementedError

    job = await typed.enqueue("ann")
    run(conn, result="many")
    with pytest.raises(InvalidResult, match=r"result of mail: Input should be a valid integer.*got 'many'.*hf\.get\("):
        await job.result(timeout=20)


async def test_a_handler_that_returns_nothing_may_have_stored_a_result(hf: Holdfast, conn: Session) -> None:
    @hf.job(name="mail")
    async def untyped(to: str) -> None: ...

    job: Job[Any] = await untyped.enqueue("ann")
    run(conn, result="in its own transaction")
    assert await job.result(timeout=20) == "in its own transaction"
    assert await hf.handle(job.id).result(timeout=20) == "in its own transaction"


async def test_an_id_may_be_given_as_its_text(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf)
    job, other = await kind.enqueue("ann"), await kind.options(delay=60).enqueue("bob")
    text, waiting = str(job.id), str(other.id)
    run(conn, result="sent")
    assert await hf.handle(text).result(timeout=20) == "sent"
    assert await kind.handle(text).result(timeout=20) == "sent"
    assert (await hf.get(text)).id == hf.get_sync(text).id == job.id
    assert [each.verdict for each in await hf.cancel([waiting])] == ["cancelled"]
    assert [each.verdict for each in hf.retry_sync([waiting])] == ["queued"]
    assert [each.verdict for each in hf.cancel_sync([waiting])] == ["cancelled"]
    assert [each.verdict for each in await hf.retry([waiting])] == ["queued"]
    assert hf.handle(waiting).id == other.id


async def test_what_is_no_id_is_refused_with_its_value(hf: Holdfast) -> None:
    kind = mail_kind(hf)
    for wrong in ("4711", "", None, 7):
        complaint = f"a job's id is a UUID or its text, and this is {wrong!r}"
        calls: list[Callable[[Any], Any]] = [hf.handle, kind.handle, hf.get_sync, lambda each: hf.cancel_sync([each])]
        for call in calls:
            with pytest.raises(InvalidArguments, match=re.escape(complaint)):
                call(wrong)
    for lone in (new_id(), str(new_id())):
        with pytest.raises(InvalidArguments, match=r"this takes a list of jobs' ids: \["):
            hf.retry_sync(lone)  # type: ignore[arg-type]


def test_a_handle_without_an_event_loop_has_the_same(database: str, conn: Session) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)
    done, waiting = kind.enqueue_sync("ann"), kind.options(delay=60).enqueue_sync("bob")
    with pytest.raises(ResultTimeout):
        done.result_sync(timeout=0.05)
    run(conn, result={"sent": 1})
    assert done.result_sync(timeout=20) == {"sent": 1}
    assert hf.handle(done.id).result_sync() == {"sent": 1}
    assert (done.status_sync(), waiting.status_sync(), waiting.progress_sync()) == ("succeeded", "queued", None)
    assert hf.get_sync(done.id).args == {"to": "ann", "copies": 1}
    assert waiting.cancel_sync() == "cancelled"
    with pytest.raises(JobCancelled):
        waiting.result_sync(timeout=20)
    assert [each.verdict for each in hf.retry_sync([waiting.id])] == ["queued"]
    with pytest.raises(JobNotFound):
        hf.get_sync(new_id())
    hf.close_sync()
    eventually(lambda: connections(conn) == [])
    assert not [each for each in threading.enumerate() if each.name == "holdfast-wait"]


async def test_threads_that_wait_share_one_connection(relay: Relay, conn: Session) -> None:
    hf = app_on(relay.dsn)
    kind = mail_kind(hf)
    handles: list[Job[Any]] = await asyncio.to_thread(hf.enqueue_many_sync, [kind.prepare(f"u{n}") for n in range(20)])
    waiting = [asyncio.create_task(asyncio.to_thread(job.result_sync, 30)) for job in handles]
    await until(lambda: relay.connected("holdfast wait"))
    worker = support.register(conn)
    claimed = support.claim(conn, worker, 20, kinds=["mail"])
    support.settle_many(conn, worker, [(each["id"], each["lease"], "complete") for each in claimed])
    assert await asyncio.gather(*waiting) == [None] * 20
    await asyncio.to_thread(hf.close_sync)
    assert relay.connected("holdfast wait") == 1


def test_a_forked_process_makes_connections_of_its_own(database: str, conn: Session) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)
    kind.enqueue_sync("the parent")
    child = os.fork()
    if child == 0:
        try:
            kind.enqueue_sync("the child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    kind.enqueue_sync("the parent again")
    hf.close_sync()
    assert [row["args"]["to"] for row in jobs(conn)] == ["the parent", "the child", "the parent again"]


def test_a_forked_process_that_closes_leaves_the_parent_its_connections(database: str, conn: Session) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)
    job = kind.enqueue_sync("the parent")
    with pytest.raises(ResultTimeout):
        job.result_sync(timeout=0.1)
    before = connections(conn)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        hf.close_sync()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert connections(conn) == before != []
    hf.close_sync()


def test_a_fork_while_a_thread_connects_leaves_the_child_no_closed_door(database: str, conn: Session) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)
    with hf._resolving:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            kind.enqueue_sync("the child")
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(jobs(conn)) == 1


async def test_the_keys_of_a_kind_are_on_its_jobs_rows(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf, unique=("to", "copies"), limit=2, limit_by="to", group_by=lambda to: to[0])
    first, again = await kind.enqueue("ann"), await kind.enqueue("ann")
    other = await kind.options(unique_key="mine", group_key="g", limit_key="l").enqueue("ann")
    assert (again.created, again.id) == (False, first.id)
    rows = [support.job(conn, job.id) for job in (first, other)]
    assert [(row["unique_key"], row["group_key"], row["limit_key"], row["limit_max"]) for row in rows] == [
        ('["ann",1]', "a", "mail:ann", 2),
        ("mine", "g", "l", 2),
    ]


async def test_a_limit_of_the_kind_and_one_of_each_group_hold_together(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf, limit=3, group_by="to")
    for to in ("ann", "ann", "bob", "bob", "eve", "joe"):
        await kind.enqueue(to)
    worker = support.register(conn)
    first = support.claim(conn, worker, 10, kinds=["mail"])
    assert len({each["args"]["to"] for each in first}) == len(first) == 3
    assert support.claim(conn, worker, 10, kinds=["mail"]) == []
    support.settle(conn, worker, first[0])
    (next_one,) = support.claim(conn, worker, 10, kinds=["mail"])
    assert next_one["args"]["to"] not in {each["args"]["to"] for each in first[1:]}


async def test_a_limit_by_key_holds_for_each_key(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf, limit=2, limit_by="to")
    for to in ("ann", "ann", "ann", "bob", "bob", "bob"):
        await kind.enqueue(to)
    worker = support.register(conn)
    claimed = [run["args"]["to"] for _ in range(3) for run in support.claim(conn, worker, 10, kinds=["mail"])]
    assert sorted(claimed) == ["ann", "ann", "bob", "bob"]


# Cancel, retry, get


async def test_cancel_answers_for_each_job(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf)
    done, running, queued = [await kind.options(priority=n).enqueue("x") for n in range(3)]
    run(conn)
    support.claim_one(conn, support.register(conn), kinds=["mail"])
    absent = new_id()
    verdicts = {each.id: each.verdict for each in await hf.cancel([done.id, running.id, queued.id, absent])}
    assert verdicts == {done.id: "finished", running.id: "requested", queued.id: "cancelled", absent: "not_found"}


async def test_retry_gives_a_dead_job_another_life(hf: Holdfast, conn: Session) -> None:
    job = await mail_kind(hf).enqueue("ann")
    run(conn, "fail")
    assert await job.status() == "dead"
    assert [each.verdict for each in await hf.retry([job.id])] == ["queued"]
    assert (await hf.get(job.id)).status == "queued"


async def test_a_job_that_nobody_knows_is_said_to_be_unknown(hf: Holdfast) -> None:
    absent = new_id()
    with pytest.raises(JobNotFound, match=str(absent)):
        await hf.get(absent)


# Kinds


def test_two_handlers_of_one_name_are_refused() -> None:
    hf = Holdfast()
    mail_kind(hf)
    with pytest.raises(ConfigurationError, match="two handlers are called 'mail'; give one of them another name"):
        hf.job(name="mail")(lambda: None)
    hf.job(name="mail-2")(lambda: None)
    assert sorted(hf.kinds) == ["mail", "mail-2"]


def test_one_function_may_be_registered_again() -> None:
    hf = Holdfast()

    def task() -> None: ...

    hf.job(max_attempts=2)(task)
    hf.job(max_attempts=3)(task)
    assert hf.kinds["task"].policy.max_attempts == 3


# Connections


def connections(conn: Session) -> list[str]:
    found = support.rows(
        conn,
        "SELECT application_name AS name FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY 1",
    )
    return [each["name"] for each in found]


async def test_close_leaves_no_connection_and_the_object_can_be_used_again(hf: Holdfast, conn: Session) -> None:
    kind = mail_kind(hf)
    job = await kind.enqueue("ann")
    kind.enqueue_sync("bob")
    waiting = asyncio.create_task(job.result(timeout=60))
    await until(lambda: connections(conn) == ["holdfast app", "holdfast enqueue", "holdfast wait"])
    waiting.cancel()
    await asyncio.wait({waiting})
    await hf.close()
    await until(lambda: connections(conn) == [])
    await kind.enqueue("eve")
    await hf.close()
    await hf.close()
    assert len(jobs(conn)) == 3


def test_an_app_works_in_one_event_loop_after_the_other(database: str, conn: Session) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)

    async def enqueue(to: str, *, close: bool) -> None:
        await kind.enqueue(to)
        if close:
            await hf.close()

    asyncio.run(enqueue("ann", close=False))
    asyncio.run(enqueue("bob", close=True))
    asyncio.run(enqueue("eve", close=True))
    assert [row["args"]["to"] for row in jobs(conn)] == ["ann", "bob", "eve"]


def test_event_loops_side_by_side_keep_their_connections_and_ended_ones_lose_theirs(
    database: str, conn: Session
) -> None:
    hf = app_on(database)
    kind = mail_kind(hf)
    turns = threading.Barrier(2, timeout=30)

    async def once() -> None:
        await kind.enqueue("ann")

    async def in_turns() -> None:
        for _ in range(3):
            await once()
            await asyncio.to_thread(turns.wait)

    loops = [threading.Thread(target=asyncio.run, args=(in_turns(),)) for _ in range(2)]
    with mock.patch.object(AsyncLedger, "__init__", autospec=True, side_effect=AsyncLedger.__init__) as made:
        for each in loops:
            each.start()
        for each in loops:
            each.join(30)
    assert made.call_count == 2 * 2, "two connections for each loop, however they take turns"
    asyncio.run(once())
    assert len(hf._clients) == 1, "those of the two loops that have ended are gone"
    hf.close_sync()
    eventually(lambda: connections(conn) == [])
    assert len(jobs(conn)) == 7


async def test_a_database_that_nobody_serves_is_told_without_its_password(tmp_path: Any) -> None:
    async with app_on(f"postgresql://ann:xyzzy@/jobs?host={tmp_path}") as hf:
        with pytest.raises(DatabaseUnavailable, match=r"'jobs' at .* cannot be reached") as caught:
            await mail_kind(hf).enqueue("ann")
    assert "xyzzy" not in str(caught.value)


async def test_a_database_without_the_schema_is_refused_with_the_command_to_run(bare: str) -> None:
    async with app_on(bare) as hf:
        with pytest.raises(SchemaMismatch, match="run: holdfast migrate up"):
            await mail_kind(hf).enqueue("ann")


async def test_something_that_is_no_connection_string_is_refused_without_showing_it() -> None:
    async with app_on("xyzzy://:plugh") as hf:
        with pytest.raises(ConfigurationError, match="not a Postgres connection string") as caught:
            await mail_kind(hf).enqueue("ann")
    assert "plugh" not in str(caught.value)


def test_ids_made_one_after_the_other_keep_their_order() -> None:
    made = [new_id() for _ in range(2000)]
    assert len(set(made)) == len(made)
    backwards = sum(later < earlier for earlier, later in pairwise(made))
    assert backwards <= 2, "but for a clock that was set back"


def a_handler(n: int) -> int:
    return n


class HandlerObject:
    def __call__(self, n: int) -> int:
        return n


@pytest.mark.parametrize(
    ("declare", "complaint"),
    [
        (lambda hf: hf.job(a_handler), "^a_handler: write @hf.job(...) with parentheses"),
        (lambda hf: hf.periodic(a_handler), "^a_handler: write @hf.periodic(...) with parentheses"),
        (lambda hf: hf.job()(int), "a job is made of a function, and this is <class 'int'>"),
        (lambda hf: hf.job()("a_handler"), "a job is made of a function, and this is 'a_handler'"),
        (lambda hf: hf.job()(HandlerObject()), "has no name of its own; give it one: @hf.job('name')"),
        (lambda hf: hf.job(7)(a_handler), "the name of a kind is 7; it must be text"),
        (lambda hf: hf.periodic("0 0 * * *", name="x" * 201)(lambda: 1), "the name of a schedule must have 1 to 200"),
    ],
)
def test_what_cannot_be_declared_is_refused_where_it_stands(declare: Callable[[Any], Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        declare(Holdfast())
    assert re.search(complaint.replace("(", "[(]").replace(")", "[)]"), str(caught.value))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"priority": "high"}, "priority is 'high'; it must be a whole number"),
        ({"priority": 1.5}, "priority is 1.5; it must be a whole number"),
        ({"priority": True}, "priority is True; it must be a whole number"),
        ({"delay": "60"}, "delay is '60'; it must be a number of seconds"),
        ({"unique_key": 42}, "unique_key is 42; it must be text"),
        ({"run_at": "tomorrow"}, "run_at is 'tomorrow'; it must be a datetime"),
        ({"id": "1"}, "id is '1'; it must be a UUID"),
    ],
)
def test_an_option_of_another_type_is_refused_with_its_value_and_what_it_must_be(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArguments, match=f"^{complaint}$"):
        Options(**options)


async def test_waiting_for_a_job_that_is_not_there_says_so(database: str) -> None:
    ledger = AsyncLedger(database)
    waiter = Waiter(ledger, missing_for=0.1)
    with pytest.raises(JobNotFound, match=f"no job has the id {UUID(int=7)}"):
        await waiter.wait(UUID(int=7))
    waiter.close()
    await ledger.close()


async def test_nobody_asks_for_a_job_that_the_last_waiter_gave_up(database: str) -> None:
    ledger = AsyncLedger(database)
    waiter = Waiter(ledger)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiter.wait(UUID(int=7)), 0.01)
    assert waiter._waiting == {}
    await until(lambda: waiter._task is None)
    await ledger.close()
