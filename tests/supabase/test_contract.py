"""One suite on both ways to run a call: over a connection and over PostgREST. What one gives, the other gives too."""

import dataclasses
import inspect
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.core.ratelimit import Policy
from holdfast.core.schedule import Schedule
from holdfast.core.watch import Watch
from holdfast.errors import IdempotencyKeyReused, InvalidValue, WorkerGone
from holdfast.postgres import (
    audit,
    calls,
    dead_letters,
    examine,
    health,
    keys,
    overview,
    presence,
    rate_limit,
    reads,
    redrives,
    schema,
    searching,
    sessions,
    watches,
)
from holdfast.postgres.calls import Call, NewJob, Settlement
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.migrate import load
from holdfast.postgres.rest import request_of
from tests.supabase.project import Project
from tests.support import Session, row

MODULES = (
    audit, calls, dead_letters, examine, health, keys, overview, presence, rate_limit, reads, redrives, schema,
    searching, sessions, watches,
)  # fmt: skip
NOW, ONE, TWO = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), UUID(int=1), UUID(int=2)
POLICY = Policy.parse("5/minute", name="contract")
WATCH = Watch("holdfast.jobs", "id", "status", "heartbeat_at", ("running",), name="contract")
JOB = NewJob(ONE, "q", "k", '{"a": 1}', priority=3)

#: A call of each function that makes one.
SAMPLES: dict[str, Callable[[], Call[Any]]] = {
    "enqueue_many": lambda: calls.enqueue_many([JOB]),
    "enqueue_once": lambda: calls.enqueue_once("s", "key", "hash", [JOB]),
    "register_worker": lambda: calls.register_worker(ONE, {"queues": ["q"], "kinds": ["k"], "slots": 1}),
    "beat": lambda: calls.beat(ONE, {}),
    "note_job_stats": lambda: calls.note_job_stats(ONE, 1, []),
    "check_leases": lambda: calls.check_leases(ONE, [(TWO, 1)], 15.0),
    "release_lost_claims": lambda: calls.release_lost_claims(ONE, [(TWO, 1)]),
    "claim": lambda: calls.claim(ONE, ["q"], ["k"], 5, None),
    "progress": lambda: calls.progress(ONE, [(TWO, 1, '{"a": "1,2"}')]),
    "settle": lambda: calls.settle(ONE, [Settlement(TWO, 1, "fail", error='{"a": "1,2"}', delay=1.5)]),
    "cancel_jobs": lambda: calls.cancel_jobs([TWO]),
    "retry_jobs": lambda: calls.retry_jobs([TWO]),
    "declare_schedules": lambda: calls.declare_schedules(
        [(Schedule("nightly", "0 3 * * *", "UTC", "q", "k", {}, False), NOW)], takeover=True
    ),
    "tick_schedule": lambda: calls.tick_schedule("nobody", NOW, NOW, JOB),
    "mark_seen_deaths": lambda: calls.mark_seen_deaths([TWO], "crashed"),
    "mark_lapsed_workers": calls.mark_lapsed_workers,
    "rescue_stale_jobs": lambda: calls.rescue_stale_jobs(600.0, 10, (ONE, TWO)),
    "ring": lambda: calls.ring(["q"]),
    "queues_to_ring": lambda: calls.queues_to_ring(15.0),
    "prune": lambda: calls.prune(600.0, 600.0, 10, None),
    "count_events": lambda: calls.count_events(600.0),
    "prune_bookkeeping": calls.prune_bookkeeping,
    "collect_dead_jobs": dead_letters.collect_dead_jobs,
    "note_dead_letters": lambda: dead_letters.note_dead_letters("dlq", [], complete=True),
    "capture_dead_letters": lambda: dead_letters.capture_dead_letters("dlq", []),
    "dead_jobs_expiring": lambda: dead_letters.dead_jobs_expiring(600.0, 60.0),
    "note_moved_letters": lambda: dead_letters.note_moved_letters("dlq", NOW, "ada", "moved"),
    "begin_looks": lambda: dead_letters.begin_looks(["dlq"], 60.0),
    "end_look": lambda: dead_letters.end_look("dlq", {"messages": 3, "retention": 60}),
    "list_dead_letter_queues": lambda: dead_letters.list_dead_letter_queues(5),
    "dead_letter_groups": dead_letters.dead_letter_groups,
    "open_incidents": lambda: dead_letters.open_incidents(["dead_letters"]),
    "record_incidents": lambda: dead_letters.record_incidents([], ["log"]),
    "oldest_transaction": dead_letters.oldest_transaction,
    "prune_letters": lambda: dead_letters.prune_letters(1e9),
    "last_sweep": dead_letters.last_sweep,
    "announce_channels": lambda: dead_letters.announce_channels(["log"], 15.0),
    "adopt_notifications": lambda: dead_letters.adopt_notifications("log"),
    "pause_channel": lambda: dead_letters.pause_channel("log", 0.0),
    "claim_notifications": lambda: dead_letters.claim_notifications(["log"], 10, 30.0),
    "settle_notification": lambda: dead_letters.settle_notification(TWO, None, None),
    "list_incidents": lambda: redrives.list_incidents(["open"], None, 5),
    "incident_history": lambda: redrives.incident_history(ONE),
    "incident_ack": lambda: redrives.incident_ack(ONE, "ada"),
    "incident_silence": lambda: redrives.incident_silence(ONE, 60.0, "ada", "note"),
    "letter_groups": lambda: redrives.letter_groups(redrives.LetterFilter(kind="k", newer=60.0)),
    "list_letters": lambda: redrives.list_letters(redrives.LetterFilter(["1"])),
    "show_letter": lambda: redrives.show_letter("1"),
    "letter_history": lambda: redrives.letter_history(ONE),
    "redrive_dead_letters": lambda: redrives.redrive_dead_letters(
        ONE, redrives.LetterFilter([]), redrives.RedriveOptions("ada", rate=1.5)
    ),
    "claim_redrive": lambda: redrives.claim_redrive(ONE, 60.0),
    "redrive_jobs": lambda: redrives.redrive_jobs(ONE, TWO, 5),
    "take_redrive_messages": lambda: redrives.take_redrive_messages(ONE, TWO, 5),
    "settle_redrive_messages": lambda: redrives.settle_redrive_messages(ONE, TWO, [redrives.Sent(ONE, "sent")]),
    "change_redrive": lambda: redrives.change_redrive(TWO, "pause", "why"),
    "list_redrives": lambda: redrives.list_redrives(None, 5),
    "discard_dead_letters": lambda: redrives.discard_dead_letters(redrives.LetterFilter([]), "ada", "why"),
    "announce_service": lambda: presence.announce_service(
        presence.Introduction(TWO, "up", "h", 1, "1", "/x", "hash", None, None)
    ),
    "withdraw_service": lambda: presence.withdraw_service(ONE),
    "list_services": presence.list_services,
    "create_api_key": lambda: keys.create_api_key(uuid4().hex, "n", "viewer", "hash", 60.0),
    "list_api_keys": keys.list_api_keys,
    "revoke_api_key": lambda: keys.revoke_api_key("nobody"),
    "key_ring": keys.key_ring,
    "note_api_key_use": lambda: keys.note_api_key_use(["nobody"]),
    "rate_limit_hits": lambda: rate_limit.rate_limit_hits([POLICY], [str(ONE)], [1], [1], [0]),
    "rate_limit_peek": lambda: rate_limit.rate_limit_peek(POLICY, str(TWO), 1),
    "rate_limit_refund": lambda: rate_limit.rate_limit_refund(POLICY, str(TWO), 1, 1),
    "rate_limit_reset": lambda: rate_limit.rate_limit_reset(TWO, None),
    "rate_limit_set_rule": lambda: rate_limit.rate_limit_set_rule("", TWO, "block", 60.0, note=None),
    "rate_limit_beat": lambda: rate_limit.rate_limit_beat(ONE, {("p", "postgres", "admitted"): 1}, {}, 1000),
    "rate_limit_leave": lambda: rate_limit.rate_limit_leave(TWO),
    "rate_limit_key": lambda: rate_limit.rate_limit_key("x"),
    "list_rate_limits": lambda: rate_limit.list_rate_limits(10),
    "top_rate_limits": lambda: rate_limit.top_rate_limits(10, None),
    "show_rate_limits": lambda: rate_limit.show_rate_limits(ONE),
    "rate_limit_rules": lambda: rate_limit.rate_limit_rules(10),
    "rate_limit_table": rate_limit.rate_limit_table,
    "begin_sweep": lambda: reads.begin_sweep("nobody", 5.0),
    "end_sweep": lambda: reads.end_sweep("prune", {"n": 1}),
    "job_outcomes": lambda: reads.job_outcomes([ONE, UUID(int=3)]),
    "run_status": lambda: reads.run_status(ONE, TWO, 1),
    "job": lambda: reads.job(ONE),
    "job_events": lambda: reads.job_events(ONE),
    "list_jobs": lambda: reads.list_jobs(queue="q", newer=60.0),
    "matching_jobs": lambda: reads.matching_jobs(reads.JobFilter(kind="k"), ["queued"], 10),
    "matching_ids": lambda: reads.matching_ids(
        reads.JobFilter(kind="k"), ["queued"], after=UUID(int=0), last=TWO, limit=5
    ),
    "suspects_waiting": lambda: reads.suspects_waiting(["q"], ["k"]),
    "ping": reads.ping,
    "probe_object": lambda: reads.probe_object("probe_stale_jobs_view"),
    "locked_stale_jobs": lambda: reads.locked_stale_jobs(600.0),
    "list_workers": reads.list_workers,
    "live_kinds": reads.live_kinds,
    "list_schedules": reads.list_schedules,
    "pause_schedule": lambda: reads.pause_schedule("nobody", paused=True),
    "remove_schedule": lambda: reads.remove_schedule("nobody"),
    "list_queues": reads.list_queues,
    "pause_queues": lambda: reads.pause_queues(["paused"], paused=True),
    "health_report": lambda: health.health_report(600.0),
    "health_part": lambda: health.health_part("stale", 600.0),
    "describe_schema": schema.describe_schema,
    "server_facts": examine.server_facts,
    "missing_grants": examine.missing_grants,
    "row_security": examine.row_security,
    "longest_silence": examine.longest_silence,
    "notices_of_death": lambda: examine.notices_of_death(ONE),
    "examine_watch": lambda: watches.examine_watch(WATCH),
    "find_watched": lambda: watches.find_watched(WATCH, 5),
    "rescue_watched": lambda: watches.rescue_watched(WATCH, {}),
    "begin_watches": lambda: watches.begin_watches([], 5.0),
    "end_watch": lambda: watches.end_watch("nobody", {"stale": 0}),
    "list_watches": watches.list_watches,
    "forget_watch": lambda: watches.forget_watch("nobody"),
    "take_watch_messages": lambda: watches.take_watch_messages(5, 60.0),
    "settle_watch_messages": lambda: watches.settle_watch_messages([(TWO, None, 0.0)]),
    "discover_tables": watches.discover_tables,
    "forget_canary": lambda: examine.forget_canary(ONE),
}  # fmt: skip

#: What needs a connection: transactions of one's own, and what only the demo and the tests ask.
CONNECTED = {
    "complete_run", "now", "rate_limit_prune", "count_jobs", "count_running", "queue_rescues", "live_workers",
    "first_success_after", "list_names", "jobs_in_order",
    # The dashboard and its API: a change and the note of it in the audit log are one statement.
    "audited", "create_session", "redeem_link", "read_session", "end_session", "list_audit", "prune_audit",
    "search_jobs", "count_matching_jobs", "begin_bulk_operation", "step_bulk_operation", "cancel_bulk_operation",
    "list_bulk_operations", "job_series", "dead_causes",
    "longest_runs", "pulse", "queue_series", "worker_jobs",
}  # fmt: skip


#: What the first caller gets, and the second not any more.
ONCE = {"claim", "begin_looks", "oldest_transaction"}


def test_every_call_is_either_a_function_or_needs_a_connection_by_intent() -> None:
    """Whoever adds a call decides which: a line `-- RPC` in its statement makes it a function (see rest.py)."""
    made = {
        name
        for module in MODULES
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and str(value.__annotations__.get("return", "")).startswith(("Call", "holdfast.postgres.calls.Call"))
    }
    assert made == set(SAMPLES) | CONNECTED


@pytest.mark.parametrize("name", list(SAMPLES))
def test_the_call_is_a_function_that_is_exposed(name: str) -> None:
    assert request_of(SAMPLES[name]()).signature.name in exposed()


def exposed() -> set[str]:
    """What the files together expose."""
    lists = [each for file in load() for each in re.findall(r"expose_functions\(ARRAY\[(.*?)\]", file.text, re.DOTALL)]
    return {name for each in lists for name in re.findall(r"'(\w+)'", each)}


def test_every_statement_that_is_a_function_is_exposed() -> None:
    texts = [path.read_text() for path in (files("holdfast.postgres") / "sql").iterdir()]
    functions = {name for text in texts for name in re.findall(r"^-- RPC (\w+)\(", text, re.MULTILINE)}
    assert functions - exposed() == set()


@pytest.mark.full
async def test_both_ways_give_the_same_rows_of_the_same_types(project: Project) -> None:
    direct, https = AsyncLedger(project.dsn), AsyncLedger(project.address())
    try:
        for name, sample in SAMPLES.items():
            over_https = await https.call(sample())
            over_connection = await direct.call(sample())
            assert shape(over_https) == shape(over_connection) or name in ONCE, name
            for mine, theirs in zip(over_https, over_connection, strict=False):
                assert agree(types(mine), types(theirs)), f"{name}: {mine} and {theirs}"
    finally:
        await direct.close()
        await https.close()


def shape(rows: list[Any]) -> list[str]:
    return [type(each).__name__ for each in rows]


def agree(mine: Any, theirs: Any) -> bool:
    """Whether the types are the same, where both have a value."""
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(agree(mine[name], theirs[name]) for name in mine)
    return mine == theirs or "NoneType" in (mine, theirs)


def types(value: Any) -> Any:
    """The types of a row's fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: types(getattr(value, field.name)) for field in dataclasses.fields(value)}
    number = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    return "bytes" if isinstance(value, bytes | memoryview) else number


@pytest.fixture(params=["connection", "https"])
async def ledger(request: pytest.FixtureRequest, project: Project) -> AsyncIterator[AsyncLedger]:
    made = AsyncLedger(project.dsn if request.param == "connection" else project.address())
    yield made
    await made.close()


@pytest.mark.full
async def test_a_job_from_its_beginning_to_its_end(ledger: AsyncLedger, conn: Session) -> None:
    worker, wanted = (
        uuid4(),
        NewJob(uuid4(), "q", "k", '{"to": "\\u00e4\\"\\\\ \U0001f600", "n": [1, 2.5, null]}', delay=0.0),
    )
    (answer,) = await ledger.call(calls.enqueue_many([wanted]))
    assert (answer.ord, answer.id, answer.created) == (1, wanted.id, True)
    (again,) = await ledger.call(calls.enqueue_many([wanted]))
    assert again.id == wanted.id
    options = {"host": "h", "pid": 1, "queues": ["q"], "kinds": ["k"], "slots": 5}
    assert await ledger.one(calls.register_worker(worker, options)) is True
    (claimed,) = await ledger.call(calls.claim(worker, ["q"], ["k"], 5, None))
    assert claimed.args == {"to": 'ä"\\ \U0001f600', "n": [1, 2.5, None]}
    assert (claimed.lease, claimed.timeout, claimed.progress) == (1, timedelta(hours=1), None)
    stored = row(conn, "SELECT claimed_at, deadline_at FROM holdfast.jobs WHERE id = %s", wanted.id)
    assert (claimed.claimed_at, claimed.deadline_at) == (stored["claimed_at"], stored["deadline_at"])
    floor = calls.Floor(claimed.priority, claimed.run_at, claimed.id)
    assert await ledger.call(calls.claim(worker, ["q"], ["k"], 5, floor)) == []
    (told,) = await ledger.call(calls.progress(worker, [(wanted.id, 1, '{"done": "1,{2}"}')]))
    assert told.verdict == "applied"
    assert [each.verdict for each in await ledger.call(calls.progress(uuid4(), [(wanted.id, 1, None)]))] == ["lost"]
    ended = Settlement(wanted.id, 1, "complete", result='{"sent": "a,b"}')
    assert [each.verdict for each in await ledger.call(calls.settle(worker, [ended]))] == ["applied"]
    assert [each.verdict for each in await ledger.call(calls.settle(worker, [ended]))] == ["already"]
    assert [each.verdict for each in await ledger.call(calls.settle(uuid4(), [ended]))] == ["lost"]
    (found,) = await ledger.call(reads.job(wanted.id))
    assert (found.status, found.result, found.progress) == ("succeeded", {"sent": "a,b"}, {"done": "1,{2}"})
    (outcome,) = await ledger.call(reads.job_outcomes([wanted.id]))
    assert (outcome.status, outcome.result) == ("succeeded", {"sent": "a,b"})


@pytest.mark.full
async def test_jobs_are_written_alone_plain_and_with_options(ledger: AsyncLedger) -> None:
    one, other = (NewJob(uuid4(), "q", "k", "{}") for _ in range(2))
    for jobs in ([one], [one, other], [one, other._replace(priority=3)]):
        answers = await ledger.call(calls.enqueue_many(jobs))
        assert {(each.id, each.created) for each in answers} == {(each.id, True) for each in jobs}


@pytest.mark.full
async def test_errors_are_the_same(ledger: AsyncLedger) -> None:
    with pytest.raises(WorkerGone):
        await ledger.call(calls.claim(uuid4(), ["q"], ["k"], 5, None))
    with pytest.raises(InvalidValue):
        await ledger.call(calls.enqueue_many([NewJob(uuid4(), "q", "k", '{"a": "\\u0000"}')]))
    await ledger.call(calls.enqueue_once("s", "key", "one", [JOB]))
    with pytest.raises(IdempotencyKeyReused):
        await ledger.call(calls.enqueue_once("s", "key", "other", [JOB]))


@pytest.mark.full
async def test_a_limit_is_the_same(ledger: AsyncLedger) -> None:
    (secret,) = [link.secret for link in await ledger.call(rate_limit.rate_limit_beat(uuid4(), {}, {}, 1000))]
    assert len(bytes(secret)) == 32
    granted = []
    for _ in range(7):
        (answer,) = await ledger.call(rate_limit.rate_limit_hits([POLICY], [str(uuid4())], [1], [3], [0]))
        granted.append(answer[1][0])
    assert granted == [3] * 7
    key = str(uuid4())
    admitted = [(await ledger.one(rate_limit.rate_limit_hits([POLICY], [key], [1], [1], [0])))[1][0] for _ in range(7)]
    assert admitted == [1] * 5 + [0] * 2
