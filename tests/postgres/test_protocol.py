"""The rules of the protocol's functions, one test for each, on a real Postgres."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from holdfast.postgres.dsn import is_pooled
from tests.support import (
    Row,
    Session,
    advance,
    beat,
    calm,
    cancel,
    check_leases,
    claim,
    claim_one,
    clock,
    enqueue,
    enqueue_many,
    enqueue_row,
    events,
    job,
    mark_gone,
    progress,
    register,
    release_lost_claims,
    rescue,
    restart_postgres,
    retry,
    row,
    rows,
    seconds,
    settle,
    settle_many,
    sweep_workers,
    worker,
)

Connect = Callable[[], Session]
Answer = TypeVar("Answer")


def ids_in_order(count: int) -> list[UUID]:
    return sorted(uuid4() for _ in range(count))


def claimed_ids(conn: Session, worker_id: UUID, count: int) -> list[UUID]:
    """The order in which single claims take jobs."""
    return [claim_one(conn, worker_id)["id"] for _ in range(count)]


def crash(conn: Session, *, quarantine: bool = False) -> Row:
    """A new worker claims one job and its process dies; what the sweep made of the job."""
    mortal = register(conn, quarantine=quarantine)
    claim_one(conn, mortal)
    mark_gone(conn, mortal, reason="crashed")
    (rescued,) = rescue(conn)
    advance(conn, seconds(120))
    return rescued


def run_and_rescue(conn: Session, worker_id: UUID) -> Row:
    """A run that falls silent and is taken back, with no attempt to spare."""
    run = claim_one(conn, worker_id)
    advance(conn, seconds(20))
    release_lost_claims(conn, worker_id, run)
    return run


# enqueue


def test_an_enqueue_that_is_repeated_writes_one_job_and_says_it_is_the_callers_own(conn: Session) -> None:
    job_id = uuid4()
    answers = [enqueue_row(conn, id=job_id, args={"n": n}) for n in range(3)]
    assert answers == [{"job_id": job_id, "created": True}] * 3
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 1
    assert job(conn, job_id)["args"] == {"n": 0}


def test_an_enqueue_repeated_after_the_job_ended_does_not_run_it_again(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    settle(conn, me, claim_one(conn, me))
    assert enqueue_row(conn, id=job_id) == {"job_id": job_id, "created": True}
    assert job(conn, job_id)["status"] == "succeeded"


def test_a_unique_key_that_is_queued_or_running_returns_the_job_that_holds_it(conn: Session) -> None:
    first = enqueue(conn, unique_key="report 7")
    assert enqueue_row(conn, unique_key="report 7") == {"job_id": first, "created": False}
    claim_one(conn, register(conn))
    assert enqueue_row(conn, unique_key="report 7") == {"job_id": first, "created": False}
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 1


def test_a_unique_key_is_free_again_once_its_job_has_ended(conn: Session) -> None:
    first = enqueue(conn, unique_key="report 7")
    cancel(conn, first)
    assert enqueue_row(conn, unique_key="report 7")["created"]


def test_the_same_unique_key_of_another_kind_is_another_key(conn: Session) -> None:
    enqueue(conn, unique_key="7")
    assert enqueue_row(conn, unique_key="7", kind="mail")["created"]


def test_a_batch_with_a_duplicate_inside_itself_writes_it_once(conn: Session) -> None:
    low, high, other = ids_in_order(3)
    answers = enqueue_many(conn, [high, low, other], unique_keys=["a", "a", "b"])
    assert answers == [
        {"ord": 1, "id": low, "created": False},
        {"ord": 2, "id": low, "created": True},
        {"ord": 3, "id": other, "created": True},
    ]


def test_a_batch_that_is_repeated_after_a_lost_answer_gets_the_same_answer(conn: Session) -> None:
    ids = ids_in_order(3)
    taken = enqueue(conn, unique_key="taken")
    first = enqueue_many(conn, ids, unique_keys=["taken", None, "free"])
    assert first == enqueue_many(conn, ids, unique_keys=["taken", None, "free"])
    assert [(each["id"], each["created"]) for each in first] == [
        (taken, False),
        (ids[1], True),
        (ids[2], True),
    ]


def test_a_unique_key_freed_while_the_enqueue_waits_for_it_is_taken(connect: Connect) -> None:
    mine, other = connect(), connect()
    holder = enqueue(mine, unique_key="k")
    other.execute("BEGIN")
    other.execute("DELETE FROM holdfast.jobs WHERE id = %s", (holder,))
    waiting = in_thread(mine, lambda: enqueue_row(mine, unique_key="k"))
    wait_until_blocked(other, mine)
    other.execute("COMMIT")
    assert waiting()["created"]


def test_two_enqueues_of_one_unique_key_at_once_write_one_job(connect: Connect) -> None:
    mine, other = connect(), connect()
    other.execute("BEGIN")
    first = enqueue(other, unique_key="k")
    waiting = in_thread(mine, lambda: enqueue_row(mine, unique_key="k"))
    wait_until_blocked(other, mine)
    other.execute("COMMIT")
    assert waiting() == {"job_id": first, "created": False}


def test_a_job_that_cannot_be_written_is_named_and_nothing_of_its_batch_is_kept(conn: Session) -> None:
    query = "SELECT * FROM holdfast.enqueue_many(%s::uuid[], ARRAY['q','q'], ARRAY['k',''], ARRAY['{}','{}']::jsonb[])"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="job 2: kind must have 1 to 200 characters"):
        rows(conn, query, ids_in_order(2))
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


@pytest.mark.parametrize(
    ("run_at", "delay"),
    [
        ("-infinity", None),
        ("infinity", None),
        ("0001-01-01 00:00:00+14", None),
        ("9999-12-31 23:59:59-14", None),
        (None, "9000 years"),
    ],
)
def test_a_time_that_no_claim_could_read_is_an_error_and_nothing_is_kept(
    conn: Session, run_at: str | None, delay: str | None
) -> None:
    """Clients know the years 1 to 9999 only: a row beyond them would break every claim that meets it."""
    query = (
        "SELECT * FROM holdfast.enqueue_many(%s::uuid[], ARRAY['q','q'], ARRAY['k','k'], ARRAY['{}','{}']::jsonb[],"
        " run_ats => ARRAY[NULL, %s]::timestamptz[], delays => ARRAY[NULL, %s]::interval[])"
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="job 2: run_at must lie in the years 2 to 9998"):
        rows(conn, query, ids_in_order(2), run_at, delay)
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


def test_a_policy_number_out_of_range_is_an_error_and_nothing_is_kept(conn: Session) -> None:
    with pytest.raises(psycopg.Error, match="policy number"):
        enqueue_many(conn, ids_in_order(2), policies=[0, 7])
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


def test_a_job_has_an_hour_unless_its_policy_says_otherwise(conn: Session) -> None:
    assert job(conn, enqueue(conn))["timeout"] == timedelta(hours=1)
    assert job(conn, enqueue(conn, timeout=5))["timeout"] == seconds(5)
    assert job(conn, enqueue(conn, timeout=None))["timeout"] is None


# enqueue_plain

PLAIN = "SELECT id, created FROM holdfast.enqueue_plain(%s::json, %s, %s)"


def plain(ids: list[UUID], **changes: Any) -> str:
    return json.dumps([{"id": str(id), "queue": "q", "kind": "k", "args": {"n": 1}, **changes} for id in ids])


def test_plain_jobs_of_which_some_were_there_are_answered_in_their_places(conn: Session) -> None:
    ids = ids_in_order(20)
    rows(conn, PLAIN, plain(ids[::2]), 10, "{}")
    again = ids[::-1]
    answers = rows(conn, PLAIN.replace("SELECT id", "SELECT ord, id"), plain(again), 20, "{}")
    assert {each["ord"]: each["id"] for each in answers} == dict(enumerate(again, 1))


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"timeout": None},
        {"timeout": 5, "max_attempts": 1, "max_crashes": 7, "retry": {"kind": "fixed", "delay": 3}},
        {"rescue": "dead", "silent_after": 3},
    ],
)
def test_plain_jobs_are_written_as_enqueue_many_writes_them(conn: Session, policy: dict[str, Any]) -> None:
    quick, usual = ids_in_order(4)[:2], ids_in_order(2)
    answers = rows(conn, PLAIN, plain(quick), 2, json.dumps(policy))
    if "rescue" in policy:  # the way of many
        assert sorted((each["id"], each["created"]) for each in answers) == [(id, True) for id in sorted(quick)]
    else:
        assert answers == [{"id": None, "created": True}], "one for all"
    opts = json.dumps({"policies": [policy]})
    arguments = ['{"n": 1}'] * 2
    query = "SELECT FROM holdfast.enqueue_many(%s, '{q,q}', '{k,k}', %s::jsonb[], opts => %s)"
    rows(conn, query, usual, arguments, opts)
    own = {"id", "run_at", "created_at"}
    (one, other) = (
        {name: value for name, value in job(conn, ids[0]).items() if name not in own} for ids in (quick, usual)
    )
    assert one == other


def test_plain_jobs_that_are_repeated_after_a_lost_answer_get_the_same_answer(conn: Session) -> None:
    ids = ids_in_order(3)
    rows(conn, PLAIN, plain(ids[:2]), 2, "{}")
    again = rows(conn, PLAIN, plain(ids), 3, "{}")
    assert sorted((each["id"], each["created"]) for each in again) == [(id, True) for id in sorted(ids)]
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 3


@pytest.mark.parametrize(
    ("changes", "policy", "message"),
    [
        ({"kind": ""}, {}, "job 1: kind must have 1 to 200 characters"),
        ({"queue": None}, {}, "job 1: queue must have 1 to 200 characters"),
        ({"args": [1]}, {}, "job 1: args must be a JSON object"),
        ({"args": None}, {}, "job 1: args"),
        ({"id": None}, {}, "job 1: id is null"),
        ({}, {"timeout": -1}, "timeout is out of range"),
        ({}, {"max_attempts": 0}, "max_attempts is out of range"),
    ],
)
def test_plain_jobs_that_cannot_be_written_are_named_and_none_is_kept(
    conn: Session, changes: dict[str, Any], policy: dict[str, Any], message: str
) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=message):
        rows(conn, PLAIN, plain(ids_in_order(2), **changes), 2, json.dumps(policy))
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


# claim: order, queues, kinds


def test_jobs_are_claimed_by_priority_then_time_then_id(conn: Session) -> None:
    now = clock(conn) - seconds(100)
    low, high = ids_in_order(2)
    last = enqueue(conn, priority=5, run_at=now - seconds(50))
    enqueue(conn, id=high, run_at=now)
    enqueue(conn, id=low, run_at=now)
    early = enqueue(conn, run_at=now - seconds(1))
    urgent = enqueue(conn, priority=-5, run_at=now + seconds(1))
    assert claimed_ids(conn, register(conn), 5) == [urgent, early, low, high, last]


def test_two_kinds_and_two_queues_are_interleaved_in_the_ledgers_order(conn: Session) -> None:
    start = clock(conn) - seconds(100)
    places = [("a", "mail"), ("b", "report"), ("a", "report"), ("b", "mail")] * 3
    expected = [
        enqueue(conn, queue=queue, kind=kind, run_at=start + seconds(n)) for n, (queue, kind) in enumerate(places)
    ]
    me = register(conn, queues=["a", "b"])
    taken = [claim_one(conn, me, queues=["a", "b"], kinds=["mail", "report"])["id"] for _ in expected]
    assert taken == expected


def test_a_batch_takes_the_first_jobs_of_all_streams(conn: Session) -> None:
    start = clock(conn) - seconds(100)
    jobs = [
        enqueue(conn, kind=f"k{n % 3}", group_key=f"g{n}" if n % 2 else None, run_at=start + seconds(n))
        for n in range(20)
    ]
    taken = claim(conn, register(conn), 8, kinds=["k0", "k1", "k2"])
    assert {run["id"] for run in taken} == set(jobs[:8])


def test_a_job_scheduled_for_later_is_not_claimed_before_its_time(conn: Session) -> None:
    later = enqueue(conn, delay=60)
    me = register(conn)
    assert claim(conn, me) == []
    advance(conn, seconds(61))
    assert claim_one(conn, me)["id"] == later


def test_urgent_jobs_for_later_do_not_stand_before_ordinary_ones_that_are_due(conn: Session) -> None:
    due = [enqueue(conn, priority=-5), enqueue(conn), enqueue(conn)]
    for _ in range(60):
        enqueue(conn, priority=-5, delay=60)
    assert {run["id"] for run in claim(conn, register(conn), 3)} == set(due)


def test_a_paused_queue_gives_nothing_until_it_is_resumed(conn: Session) -> None:
    me = register(conn)
    waiting = enqueue(conn)
    conn.execute("UPDATE holdfast.queues SET paused = true")
    assert claim(conn, me) == []
    conn.execute("UPDATE holdfast.queues SET paused = false")
    assert claim_one(conn, me)["id"] == waiting


def test_kinds_and_queues_that_the_worker_did_not_name_stay_untouched(conn: Session) -> None:
    others = [enqueue(conn, kind="unknown"), enqueue(conn, queue="elsewhere")]
    before = [job(conn, each) for each in others]
    assert claim(conn, register(conn)) == []
    assert [job(conn, each) for each in others] == before


def test_a_claim_takes_no_more_than_it_was_asked_for(conn: Session) -> None:
    enqueue_many(conn, ids_in_order(10))
    me = register(conn)
    assert [len(claim(conn, me, size)) for size in (3, 0, -1, 5, 5, 5)] == [3, 0, 0, 5, 2, 0]


def test_a_claim_opens_a_new_lease_with_its_deadline(conn: Session) -> None:
    enqueue(conn, timeout=60)
    me = register(conn)
    run = claim_one(conn, me)
    found = job(conn, run["id"])
    assert (found["status"], found["worker_id"], found["lease"], run["lease"]) == ("running", me, 1, 1)
    assert found["deadline_at"] - found["claimed_at"] == seconds(90)
    assert found["heartbeat_at"] == found["claimed_at"]


def test_two_claims_at_once_share_the_queue_and_neither_waits(connect: Connect) -> None:
    mine, other = connect(), connect()
    enqueue_many(mine, ids_in_order(6))
    one, two = register(mine), register(mine)
    other.execute("BEGIN")
    theirs = {run["id"] for run in claim(other, two, 3)}
    mine.execute("SET lock_timeout = '1ms'")
    ours = {run["id"] for run in claim(mine, one, 3)}
    other.execute("COMMIT")
    assert len(ours) == len(theirs) == 3
    assert not ours & theirs


def test_a_floor_leaves_out_what_lies_before_it(conn: Session) -> None:
    start = clock(conn) - seconds(100)
    jobs = [enqueue(conn, run_at=start + seconds(n)) for n in range(4)]
    second = job(conn, jobs[1])
    floor = {"priority": 0, "run_at": second["run_at"].isoformat(), "id": str(second["id"])}
    assert {run["id"] for run in claim(conn, register(conn), floor=floor)} == set(jobs[2:])


def test_a_worker_that_is_gone_or_unknown_cannot_claim(conn: Session) -> None:
    enqueue(conn)
    gone = register(conn)
    mark_gone(conn, gone)
    for stranger in (gone, uuid4()):
        with pytest.raises(psycopg.Error) as caught:
            claim(conn, stranger)
        assert caught.value.sqlstate == "HF001"


def test_a_claim_without_a_number_takes_none(conn: Session) -> None:
    enqueue(conn, queue="default", kind="work")
    me = register(conn)
    asked = "SELECT FROM holdfast.claim(%s, '{default}', '{work}', %s)"
    assert [len(rows(conn, asked, me, number)) for number in (None, 5)] == [0, 1]


def test_a_claim_that_finds_no_job_writes_nothing(conn: Session) -> None:
    me = register(conn)
    # That somebody asks for a queue's jobs is noted once a second.
    conn.execute("UPDATE holdfast.queues SET claimed_at = holdfast.clock() + interval '1 hour'")
    for count in (0, 1):  # a job shows that the question is one
        if count:
            enqueue(conn)
        with conn.transaction():
            assert len(claim(conn, me)) == count
            (row,) = conn.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS wrote").fetchall()
        assert row["wrote"] is bool(count)


# claim: groups and limits


def test_a_group_runs_one_job_at_a_time_also_across_kinds(conn: Session) -> None:
    for kind in ("mail", "report", "mail"):
        enqueue(conn, kind=kind, group_key="customer 1")
    me = register(conn)
    for _ in range(3):
        (run,) = claim(conn, me, kinds=["mail", "report"])
        assert claim(conn, me, kinds=["mail", "report"]) == []
        settle(conn, me, run)


def test_the_same_group_of_another_queue_is_another_group(conn: Session) -> None:
    enqueue(conn, group_key="g", queue="a")
    enqueue(conn, group_key="g", queue="b")
    assert len(claim(conn, register(conn), queues=["a", "b"])) == 2


def test_a_group_claimed_in_an_open_transaction_is_left_alone(connect: Connect) -> None:
    mine, other = connect(), connect()
    for _ in range(4):
        enqueue(mine, group_key="g")
    one, two = register(mine), register(mine)
    other.execute("BEGIN")
    assert len(claim(other, two)) == 1
    mine.execute("SET lock_timeout = '1ms'")
    assert claim(mine, one) == []
    other.execute("COMMIT")
    assert claim(mine, one) == []
    assert row(mine, "SELECT count(*) AS n FROM holdfast.jobs WHERE status = 'running'")["n"] == 1


def test_a_busy_group_does_not_hold_up_jobs_behind_it(conn: Session) -> None:
    start = clock(conn) - seconds(100)
    for n in range(30):
        enqueue(conn, group_key="busy", run_at=start + seconds(n))
    free = {enqueue(conn), enqueue(conn, group_key="idle")}
    me = register(conn)
    claim_one(conn, me)
    assert {run["id"] for run in claim(conn, me, 5)} == free


def test_a_limit_is_kept_across_queues_and_kinds(conn: Session) -> None:
    for n in range(9):
        enqueue(conn, queue=f"q{n % 3}", kind=f"k{n % 2}", limit_key="api", limit_max=2)
    me = register(conn)
    where: Any = {"queues": ["q0", "q1", "q2"], "kinds": ["k0", "k1"]}
    first, _ = claim(conn, me, **where)
    assert claim(conn, me, **where) == []
    settle(conn, me, first)
    assert len(claim(conn, me, **where)) == 1


def test_a_limit_claimed_in_an_open_transaction_is_not_exceeded(connect: Connect) -> None:
    mine, other = connect(), connect()
    for _ in range(6):
        enqueue(mine, limit_key="api", limit_max=3)
    one, two = register(mine), register(mine)
    other.execute("BEGIN")
    assert len(claim(other, two, 2)) == 2
    assert claim(mine, one) == []
    other.execute("COMMIT")
    assert len(claim(mine, one)) == 1


def test_a_limit_of_one_is_what_a_limit_key_means_by_itself(conn: Session) -> None:
    for _ in range(3):
        enqueue(conn, limit_key="api")
    assert len(claim(conn, register(conn))) == 1


def test_a_limited_queue_runs_no_more_than_it_may(connect: Connect) -> None:
    mine, other = connect(), connect()
    one, two = register(mine), register(mine)
    mine.execute("""UPDATE holdfast.queues SET limits = '{"running": 3}'""")
    enqueue_many(mine, ids_in_order(9))
    other.execute("BEGIN")
    assert len(claim(other, two, 2)) == 2
    assert claim(mine, one) == []
    other.execute("COMMIT")
    assert len(claim(mine, one)) == 1
    assert claim(mine, one) == []


def test_a_queue_at_its_limit_does_not_hold_up_another_queue(conn: Session) -> None:
    me = register(conn, queues=["full", "free"])
    conn.execute("""UPDATE holdfast.queues SET limits = '{"running": 1}' WHERE name = 'full'""")
    enqueue_many(conn, ids_in_order(100), queue="full")
    claim_one(conn, me, queues=["full"])
    free = enqueue(conn, queue="free")
    assert [run["id"] for run in claim(conn, me, 2, queues=["full", "free"])] == [free]


# claim: suspects


def test_suspects_run_only_in_quarantine_and_quarantine_runs_only_suspects(conn: Session) -> None:
    suspect, plain = enqueue(conn), enqueue(conn)
    conn.execute("UPDATE holdfast.jobs SET suspect = true WHERE id = %s", (suspect,))
    assert [run["id"] for run in claim(conn, register(conn, quarantine=True))] == [suspect]
    assert [run["id"] for run in claim(conn, register(conn))] == [plain]


def test_a_quarantine_worker_runs_one_suspect_at_a_time(conn: Session) -> None:
    enqueue_many(conn, ids_in_order(4))
    conn.execute("UPDATE holdfast.jobs SET suspect = true")
    alone = register(conn, quarantine=True)
    (run,) = claim(conn, alone)
    assert claim(conn, alone) == []
    settle(conn, alone, run)
    assert len(claim(conn, alone)) == 1


def test_a_job_that_becomes_suspect_between_a_claims_look_and_its_lock_is_left_to_quarantine(conn: Session) -> None:
    job_id = enqueue(conn)
    conn.execute("CREATE SCHEMA aside")
    conn.execute("ALTER FUNCTION holdfast.claim_candidates SET SCHEMA aside")
    conn.execute(
        "CREATE FUNCTION holdfast.claim_candidates(text[], text[], integer, suspects boolean, timestamptz, smallint,"
        " timestamptz, uuid, double precision)"
        " RETURNS TABLE (id uuid, priority smallint, run_at timestamptz, laned boolean) LANGUAGE plpgsql AS $$ BEGIN"
        "   RETURN QUERY SELECT * FROM aside.claim_candidates($1, $2, $3, $4, $5, $6, $7, $8, $9);"
        "   UPDATE holdfast.jobs SET suspect = true;"
        " END $$"
    )
    assert claim(conn, register(conn)) == []
    assert [run["id"] for run in claim(conn, register(conn, quarantine=True))] == [job_id]


@pytest.mark.parametrize("key", ["group_key", "limit_key"])
def test_suspects_of_a_busy_group_or_limit_do_not_stand_before_other_suspects(conn: Session, key: str) -> None:
    enqueue(conn, **{key: "busy"})
    claim_one(conn, register(conn))
    blocked = [enqueue(conn, **{key: "busy"}) for _ in range(20)]
    free = [enqueue(conn), enqueue(conn, **{key: "free"})]
    conn.execute("UPDATE holdfast.jobs SET suspect = true WHERE status = 'queued'")
    assert {claim_one(conn, register(conn, quarantine=True))["id"] for _ in free} == set(free)
    assert claim(conn, register(conn, quarantine=True)) == []
    assert {job(conn, each)["status"] for each in blocked} == {"queued"}


def test_a_suspect_of_a_group_still_counts_in_it(conn: Session) -> None:
    suspect = enqueue(conn, group_key="g")
    enqueue(conn, group_key="g")
    conn.execute("UPDATE holdfast.jobs SET suspect = true WHERE id = %s", (suspect,))
    claim_one(conn, register(conn))
    assert claim(conn, register(conn, quarantine=True)) == []


# settle


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("complete", "succeeded"), ("fail", "dead"), ("release", "queued"), ("snooze", "queued")],
)
def test_a_settle_is_applied_once_and_its_repetition_is_known(conn: Session, outcome: str, status: str) -> None:
    enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    assert settle(conn, me, run, outcome) == "applied"
    before = job(conn, run["id"])
    assert before["status"] == status
    assert settle(conn, me, run, outcome) == "already"
    assert job(conn, run["id"]) == before


def test_a_settle_that_names_another_outcome_than_the_recorded_one_is_lost(conn: Session) -> None:
    enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    settle(conn, me, run, "complete")
    assert settle(conn, me, run, "fail") == "lost"
    assert job(conn, run["id"])["status"] == "succeeded"


@pytest.mark.parametrize("outcome", ["fail", "snooze"])
def test_a_repeated_settle_is_known_even_after_the_job_was_claimed_again(conn: Session, outcome: str) -> None:
    enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    settle(conn, me, run, outcome, delay=seconds(0))
    again = claim_one(conn, register(conn))
    assert settle(conn, me, run, outcome, delay=seconds(0)) == "already"
    assert job(conn, run["id"])["lease"] == again["lease"]
    assert job(conn, run["id"])["attempts"] == (outcome == "fail")


def test_a_settle_of_an_earlier_run_that_names_another_outcome_is_lost(conn: Session) -> None:
    enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    assert settle(conn, me, run, "fail", delay=seconds(0)) == "applied"
    claim_one(conn, register(conn))
    assert settle(conn, me, run, "fail") == "already"
    assert settle(conn, me, run, "snooze", delay=seconds(0)) == "lost"
    assert settle(conn, me, run) == "lost"


def test_a_zombies_settle_is_lost_changes_nothing_and_is_counted(conn: Session) -> None:
    enqueue(conn)
    zombie, heir = register(conn), register(conn)
    run = claim_one(conn, zombie)
    mark_gone(conn, zombie)
    rescue(conn)
    claim_one(conn, heir)
    before = job(conn, run["id"])
    assert settle(conn, zombie, run, result={"stale": True}) == "lost"
    assert job(conn, run["id"]) == before
    assert [event["event"] for event in events(conn, run["id"])] == ["crash", "fenced_late_write"]


def test_a_settle_under_the_right_lease_by_another_worker_is_lost(conn: Session) -> None:
    enqueue(conn)
    run = claim_one(conn, register(conn))
    assert settle(conn, register(conn), run) == "lost"
    assert job(conn, run["id"])["status"] == "running"


def test_a_settle_of_an_unknown_job_is_lost(conn: Session) -> None:
    assert settle(conn, register(conn), {"id": uuid4(), "lease": 1}) == "lost"


def test_each_row_of_a_settle_is_judged_by_its_own_lease(conn: Session) -> None:
    enqueue_many(conn, ids_in_order(2))
    me = register(conn)
    one, two = claim(conn, me)
    settle(conn, me, two)
    answers = settle_many(conn, me, [(one["id"], 1, "complete"), (two["id"], 1, "complete"), (uuid4(), 1, "complete")])
    assert sorted(answer["verdict"] for answer in answers) == ["already", "applied", "lost"]


def test_two_leases_of_one_job_in_one_settle_are_told_apart(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    old = claim_one(conn, me)
    release_lost_claims(conn, me, old)
    new = claim_one(conn, me)
    answers = settle_many(conn, me, [(job_id, old["lease"], "complete"), (job_id, new["lease"], "release")])
    assert {answer["lease"]: answer["verdict"] for answer in answers} == {
        old["lease"]: "lost",
        new["lease"]: "applied",
    }
    assert job(conn, job_id)["status"] == "queued"


def test_two_outcomes_of_one_run_in_one_settle_are_not_both_applied(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    answers = settle_many(conn, me, [(job_id, run["lease"], "complete"), (job_id, run["lease"], "snooze")])
    assert sorted(answer["verdict"] for answer in answers) == ["applied", "lost"]


def test_a_settle_may_leave_out_the_rows_that_somebody_holds_locked(
    conn: Session, connect: Callable[[], Session]
) -> None:
    worker_id = register(conn)
    first, second, third = (enqueue(conn) for _ in range(3))
    claim(conn, worker_id)
    stranger, somebody = uuid4(), connect()
    asked = [(first, 1), (second, 1), (second, 7), (third, 9), (stranger, 1)]

    def settled() -> list[tuple[UUID, int, str, str | None]]:
        answers = rows(
            conn,
            "SELECT * FROM holdfast.settle(%s, %s::uuid[], %s::bigint[], %s::text[], %s::jsonb[], opts => %s)",
            worker_id,
            [job_id for job_id, _ in asked],
            [lease for _, lease in asked],
            ["complete"] * len(asked),
            [Jsonb(number) for number in range(len(asked))],
            Jsonb({"skip_locked": True}),
        )
        return sorted((each["id"], each["lease"], each["verdict"], each["status"]) for each in answers)

    with somebody.transaction():
        somebody.execute("SELECT FROM holdfast.jobs WHERE id = %s FOR UPDATE", (second,))
        assert settled() == sorted(
            [
                (first, 1, "applied", "succeeded"), (second, 1, "locked", "running"), (second, 7, "locked", "running"),
                (third, 9, "lost", "running"), (stranger, 1, "lost", None),
            ]
        )  # fmt: skip
    assert {each[2] for each in settled() if each[:2] == (second, 1)} == {"applied"}
    assert [job(conn, each)["result"] for each in (first, second)] == [0, 1]
    assert job(conn, third)["status"] == "running"


def test_a_settle_with_an_unknown_outcome_or_uneven_arrays_is_refused(conn: Session) -> None:
    for leases, outcomes in (([1], ["win"]), ([1, 2], ["complete"]), ([1], ["complete", "complete"])):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            rows(
                conn,
                "SELECT * FROM holdfast.settle(%s, %s::uuid[], %s::bigint[], %s::text[])",
                uuid4(),
                [uuid4()],
                leases,
                outcomes,
            )


def test_a_result_is_stored_and_an_old_error_forgotten(conn: Session) -> None:
    enqueue(conn)
    me = register(conn)
    settle(conn, me, claim_one(conn, me), "fail", delay=seconds(0), error={"type": "E"}, fingerprint="f")
    found = job(conn, claim_one(conn, me)["id"])
    assert (found["error"], found["fingerprint"]) == ({"type": "E"}, "f")
    assert settle(conn, me, found, result=[1]) == "applied"
    found = job(conn, found["id"])
    assert (found["result"], found["error"], found["fingerprint"]) == ([1], None, None)
    assert found["finished_at"] is not None


def test_a_failure_waits_for_its_delay_and_the_last_attempt_is_dead(conn: Session) -> None:
    job_id = enqueue(conn, max_attempts=2)
    me = register(conn)
    settle(conn, me, claim_one(conn, me), "fail", delay=seconds(30))
    assert claim(conn, me) == []
    advance(conn, seconds(31))
    settle(conn, me, claim_one(conn, me), "fail", delay=seconds(30))
    found = job(conn, job_id)
    assert (found["status"], found["attempts"]) == ("dead", 2)
    assert [event["event"] for event in events(conn, job_id)] == ["failure", "failure"]


def test_a_failure_without_a_delay_is_final(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    settle(conn, me, claim_one(conn, me), "fail")
    assert job(conn, job_id)["status"] == "dead"


@pytest.mark.parametrize("outcome", ["release", "snooze"])
def test_a_release_or_snooze_costs_nothing(conn: Session, outcome: str) -> None:
    enqueue(conn, max_attempts=1)
    me = register(conn)
    before = job(conn, claim_one(conn, me)["id"])
    settle(conn, me, before, outcome, delay=seconds(60))
    after = job(conn, before["id"])
    assert after["status"] == "queued"
    for column in ("attempts", "crashes", "shared_crashes", "rescues", "suspect"):
        assert after[column] == before[column]
    assert (after["run_at"] == before["run_at"]) == (outcome == "release")


# cancel


def test_a_queued_job_is_cancelled_at_once(conn: Session) -> None:
    job_id = enqueue(conn)
    assert cancel(conn, job_id) == {job_id: "cancelled"}
    assert job(conn, job_id)["status"] == "cancelled"
    assert claim(conn, register(conn)) == []


def test_a_cancel_of_a_running_job_is_told_to_its_worker(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    assert cancel(conn, job_id) == {job_id: "requested"}
    assert job(conn, job_id)["status"] == "running"
    assert check_leases(conn, me, run) == {job_id: "cancel"}


def test_a_cancel_of_an_ended_or_unknown_job_changes_nothing(conn: Session) -> None:
    ended, unknown = enqueue(conn), uuid4()
    me = register(conn)
    settle(conn, me, claim_one(conn, me))
    before = job(conn, ended)
    assert cancel(conn, ended, unknown, ended) == {ended: "finished", unknown: "not_found"}
    assert job(conn, ended) == before


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("complete", "succeeded"), ("fail", "cancelled"), ("release", "cancelled"), ("snooze", "cancelled")],
)
def test_what_the_handler_does_decides_after_a_cancel(conn: Session, outcome: str, status: str) -> None:
    enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    cancel(conn, run["id"])
    settle(conn, me, run, outcome, delay=seconds(1))
    found = job(conn, run["id"])
    assert found["status"] == status
    assert found["finished_at"] is not None
    assert settle(conn, me, run, outcome, delay=seconds(1)) == "already"


def test_a_cancelled_job_that_is_rescued_ends_cancelled(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    claim_one(conn, me)
    cancel(conn, job_id)
    mark_gone(conn, me)
    (rescued,) = rescue(conn)
    assert rescued["status"] == job(conn, job_id)["status"] == "cancelled"


# retry


def test_a_retry_gives_all_budgets_anew_under_a_higher_lease(conn: Session) -> None:
    job_id = enqueue(conn, max_attempts=2)
    me = register(conn)
    run = claim_one(conn, me)
    settle(conn, me, run, "fail", fingerprint="f")
    conn.execute(
        "UPDATE holdfast.jobs SET crashes = 3, shared_crashes = 2, suspect = true, rescues = 19,"
        " cancel_requested_at = now()"
    )
    assert retry(conn, job_id) == {job_id: "queued"}
    found = job(conn, job_id)
    assert found["lease"] > run["lease"]
    assert [found[column] for column in ("attempts", "crashes", "shared_crashes", "rescues")] == [0, 0, 0, 0]
    assert [found[column] for column in ("suspect", "cancel_requested_at", "finished_at", "fingerprint")] == [
        False,
        None,
        None,
        None,
    ]
    assert events(conn, job_id)[-1]["event"] == "redrive"
    assert settle(conn, me, run, "complete") == "lost"
    assert claim_one(conn, me)["id"] == job_id


def test_a_retry_skips_a_job_whose_unique_key_was_taken(conn: Session) -> None:
    job_id, other = enqueue(conn, unique_key="k"), enqueue(conn)
    cancel(conn, job_id, other)
    enqueue(conn, unique_key="k")
    assert retry(conn, job_id, other) == {job_id: "unique_taken", other: "queued"}
    assert job(conn, job_id)["status"] == "cancelled"


def test_a_retry_wakes_a_job_that_waits_for_later(conn: Session) -> None:
    job_id = enqueue(conn, delay=3600)
    assert retry(conn, job_id) == {job_id: "queued"}
    assert claim_one(conn, register(conn))["lease"] == 1


def test_a_retry_leaves_running_succeeded_and_unknown_jobs_alone(conn: Session) -> None:
    start = clock(conn) - seconds(9)
    succeeded, running, unknown = enqueue(conn, run_at=start), enqueue(conn), uuid4()
    me = register(conn)
    settle(conn, me, claim_one(conn, me))
    claim_one(conn, me)
    before = [job(conn, succeeded), job(conn, running)]
    assert retry(conn, running, succeeded, unknown) == {
        running: "running",
        succeeded: "succeeded",
        unknown: "not_found",
    }
    assert [job(conn, succeeded), job(conn, running)] == before


# progress


def test_progress_is_kept_and_is_a_sign_of_life(conn: Session) -> None:
    enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    advance(conn, seconds(5))
    assert progress(conn, me, run, report={"done": 1}) == ["applied"]
    assert progress(conn, me, run) == ["applied"]
    found = job(conn, run["id"])
    assert found["progress"] == {"done": 1}
    assert found["heartbeat_at"] - found["claimed_at"] >= seconds(5)


def test_progress_under_an_old_lease_or_of_another_worker_is_lost(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    old = claim_one(conn, me)
    release_lost_claims(conn, me, old)
    new = claim_one(conn, me)
    before = job(conn, job_id)
    assert progress(conn, me, old, report=1) == ["lost"]
    assert progress(conn, register(conn), new, report=1) == ["lost"]
    assert job(conn, job_id) == before
    assert progress(conn, me, old, new) == ["lost", "applied"]


def test_progress_skips_a_row_that_is_locked_and_writes_the_others(connect: Connect) -> None:
    mine, other = connect(), connect()
    enqueue_many(mine, ids_in_order(2))
    me = register(mine)
    one, two = claim(mine, me)
    other.execute("BEGIN")
    other.execute("SELECT FROM holdfast.jobs WHERE id = %s FOR UPDATE", (one["id"],))
    mine.execute("SET lock_timeout = '1ms'")
    assert progress(mine, me, one, two) == ["locked", "applied"]
    other.execute("ROLLBACK")


# check_leases and release_lost_claims


def test_a_worker_learns_which_leases_are_no_longer_its_own(conn: Session) -> None:
    enqueue_many(conn, ids_in_order(2))
    me = register(conn)
    kept, taken = claim(conn, me)
    release_lost_claims(conn, me, taken)
    assert check_leases(conn, me, kept, taken) == {taken["id"]: "lost"}


def test_a_claim_that_its_worker_does_not_know_is_unknown_after_15_seconds_only(conn: Session) -> None:
    enqueue(conn)
    me = register(conn)
    run = claim_one(conn, me)
    assert check_leases(conn, me) == {}
    advance(conn, seconds(16))
    assert check_leases(conn, me) == {run["id"]: "unknown"}
    assert check_leases(conn, me, run) == {}


def test_a_lost_claim_is_free_and_keeps_its_place(conn: Session) -> None:
    job_id = enqueue(conn, max_attempts=1, rescue="dead")
    me = register(conn)
    before = job(conn, job_id)
    for _ in range(3):
        release_lost_claims(conn, me, claim_one(conn, me))
    after = job(conn, job_id)
    assert (after["status"], after["run_at"], after["worker_id"]) == ("queued", before["run_at"], None)
    for column in ("attempts", "crashes", "shared_crashes"):
        assert after[column] == 0
    assert after["lease"] == 6


def test_nobody_releases_the_claim_of_another_worker_or_an_older_lease(conn: Session) -> None:
    enqueue(conn)
    me = register(conn)
    old = claim_one(conn, me)
    release_lost_claims(conn, me, old)
    new = claim_one(conn, me)
    assert release_lost_claims(conn, me, old) == []
    assert release_lost_claims(conn, register(conn), new) == []
    assert job(conn, new["id"])["lease"] == new["lease"]


# rescue: reasons and costs


def silent_job(conn: Session, **opts: Any) -> tuple[UUID, UUID]:
    """A job that runs on a worker which beats on."""
    job_id = enqueue(conn, **opts)
    me = register(conn)
    claim_one(conn, me)
    return job_id, me


def pass_time(conn: Session, worker_id: UUID, by: timedelta) -> None:
    advance(conn, by)
    beat(conn, worker_id)
    calm(conn)


def test_a_job_past_its_deadline_is_taken_for_one_attempt(conn: Session) -> None:
    job_id, me = silent_job(conn, timeout=60)
    pass_time(conn, me, seconds(89))
    assert rescue(conn) == []
    pass_time(conn, me, seconds(2))
    (rescued,) = rescue(conn)
    assert (rescued["reason"], rescued["status"], rescued["is_crash"]) == ("deadline_passed", "queued", False)
    assert (job(conn, job_id)["attempts"], job(conn, job_id)["crashes"]) == (1, 0)


def test_a_job_that_owes_heartbeats_is_taken_after_silent_after_for_one_attempt(conn: Session) -> None:
    job_id, me = silent_job(conn, silent_after=30)
    pass_time(conn, me, seconds(29))
    assert rescue(conn) == []
    pass_time(conn, me, seconds(2))
    (rescued,) = rescue(conn)
    assert (rescued["reason"], rescued["status"]) == ("no_heartbeat", "queued")
    assert job(conn, job_id)["attempts"] == 1


def test_a_job_without_any_sign_of_life_is_taken_after_stale_after(conn: Session) -> None:
    _, me = silent_job(conn, timeout=None)
    pass_time(conn, me, seconds(599))
    assert rescue(conn, stale_after=seconds(600)) == []
    pass_time(conn, me, seconds(2))
    assert [each["reason"] for each in rescue(conn, stale_after=seconds(600))] == ["no_heartbeat"]


def test_silence_with_no_attempt_left_is_dead_with_its_reason(conn: Session) -> None:
    job_id, me = silent_job(conn, silent_after=30, max_attempts=1)
    pass_time(conn, me, seconds(31))
    (rescued,) = rescue(conn)
    found = job(conn, job_id)
    assert rescued["status"] == found["status"] == "dead"
    assert found["error"]["type"] == "no_heartbeat"
    assert found["fingerprint"] == "rescue:no_heartbeat:report"
    assert found["finished_at"] is not None


@pytest.mark.parametrize("reason", ["stopped", "fenced", "replaced"])
def test_a_worker_that_ended_without_a_crash_costs_its_jobs_nothing(conn: Session, reason: str) -> None:
    job_id, me = silent_job(conn, max_attempts=1)
    mark_gone(conn, me, reason=reason)
    (rescued,) = rescue(conn)
    assert (rescued["reason"], rescued["status"], rescued["is_crash"]) == ("worker_gone", "queued", False)
    found = job(conn, job_id)
    assert (found["attempts"], found["crashes"], found["shared_crashes"]) == (0, 0, 0)


def test_a_job_of_a_worker_that_was_pruned_is_taken(conn: Session) -> None:
    _, me = silent_job(conn)
    conn.execute("DELETE FROM holdfast.workers WHERE id = %s", (me,))
    assert [each["reason"] for each in rescue(conn)] == ["worker_gone"]


def test_a_job_of_a_live_worker_is_never_taken(conn: Session) -> None:
    _, me = silent_job(conn)
    pass_time(conn, me, seconds(300))
    assert rescue(conn) == []


def test_the_first_rescue_requeues_at_once_and_later_ones_back_off(conn: Session) -> None:
    job_id = enqueue(conn, max_attempts=100)
    place = job(conn, job_id)["run_at"]
    waits = []
    for _ in range(9):
        me = register(conn)
        claim_one(conn, me)
        mark_gone(conn, me, reason="stopped")
        (rescued,) = rescue(conn)
        run_at = job(conn, job_id)["run_at"]
        waits.append(0.0 if run_at == place else (run_at - rescued["rescued_at"]).total_seconds())
        advance(conn, seconds(120))
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_the_back_off_has_jitter(conn: Session) -> None:
    waits = []
    for dice in (0.0, 0.999):
        job_id, me = silent_job(conn)
        conn.execute("UPDATE holdfast.jobs SET rescues = 4 WHERE id = %s", (job_id,))
        mark_gone(conn, me, reason="stopped")
        (rescued,) = rescue(conn, dice=dice)
        waits.append((job(conn, job_id)["run_at"] - rescued["rescued_at"]).total_seconds())
        cancel(conn, job_id)
    assert waits == [pytest.approx(8 * 0.75), pytest.approx(8 * 1.25, rel=0.01)]


def test_the_twentieth_rescue_of_any_kind_is_dead(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    for _ in range(19):
        run_and_rescue(conn, me)
    assert job(conn, job_id)["status"] == "queued"
    run_and_rescue(conn, me)
    found = job(conn, job_id)
    assert (found["status"], found["rescues"]) == ("dead", 20)
    assert found["error"]["message"] == "rescued 20 times"


@pytest.mark.parametrize("reason", ["stopped", "crashed"])
def test_a_job_that_must_not_run_twice_is_dead_when_its_run_did_not_end(conn: Session, reason: str) -> None:
    job_id, me = silent_job(conn)
    conn.execute("UPDATE holdfast.jobs SET rescue_policy = 'dead'")
    mark_gone(conn, me, reason=reason)
    assert rescue(conn)[0]["status"] == job(conn, job_id)["status"] == "dead"


def test_a_rescue_leaves_rows_that_moved_on_or_are_locked(connect: Connect) -> None:
    mine, other = connect(), connect()
    enqueue_many(mine, ids_in_order(2))
    me = register(mine)
    locked, free = claim(mine, me)
    mark_gone(mine, me)
    other.execute("BEGIN")
    other.execute("SELECT FROM holdfast.jobs WHERE id = %s FOR UPDATE", (locked["id"],))
    assert [each["id"] for each in rescue(mine)] == [free["id"]]
    other.execute("COMMIT")
    assert [each["id"] for each in rescue(mine)] == [locked["id"]]
    assert rescue(mine) == []


def test_a_rescue_comes_in_batches(conn: Session) -> None:
    enqueue_many(conn, ids_in_order(5))
    me = register(conn)
    claim(conn, me)
    mark_gone(conn, me)
    assert [len(rescue(conn, max_jobs=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_the_lease_grows_with_each_claim_rescue_and_retry_and_never_falls(conn: Session) -> None:
    job_id = enqueue(conn)
    me = register(conn)
    leases = []

    def note() -> None:
        leases.append(job(conn, job_id)["lease"])

    note()
    run = claim_one(conn, me)
    note()
    release_lost_claims(conn, me, run)
    note()
    settle(conn, me, claim_one(conn, me), "release")
    note()
    cancel(conn, job_id)
    note()
    retry(conn, job_id)
    note()
    assert leases == [0, 1, 2, 3, 3, 4]


# poison


def test_a_first_shared_crash_requeues_and_a_second_makes_the_job_suspect(conn: Session) -> None:
    job_id = enqueue(conn)
    assert crash(conn)["is_crash"]
    assert not job(conn, job_id)["suspect"]
    assert crash(conn)["status"] == "queued"
    found = job(conn, job_id)
    assert (found["suspect"], found["shared_crashes"], found["crashes"]) == (True, 2, 0)
    assert claim(conn, register(conn)) == []


def test_three_crashes_alone_make_a_suspect_dead_with_the_evidence(conn: Session) -> None:
    job_id = enqueue(conn)
    crash(conn)
    crash(conn)
    statuses = [crash(conn, quarantine=True)["status"] for _ in range(3)]
    assert statuses == ["queued", "queued", "dead"]
    found = job(conn, job_id)
    assert (found["crashes"], found["error"]["type"]) == (3, "worker_gone")
    evidence = [event["details"] for event in events(conn, job_id) if event["event"] == "crash"]
    assert [details["alone"] for details in evidence] == [False, False, True, True, True]


def test_a_silence_in_quarantine_is_no_crash_alone_since_nobody_saw_one(conn: Session) -> None:
    job_id = enqueue(conn)
    crash(conn)
    crash(conn)
    for _ in range(3):
        alone = register(conn, quarantine=True)
        claim_one(conn, alone)
        advance(conn, seconds(40))
        calm(conn)
        sweep_workers(conn)
        assert worker(conn, alone)["gone_reason"] == "lapsed"
        assert [each["id"] for each in rescue(conn)] == [job_id]
        advance(conn, seconds(120))
    found = job(conn, job_id)
    assert (found["status"], found["crashes"]) == ("queued", 0)


@pytest.mark.parametrize("outcome", ["complete", "snooze"])
def test_a_success_clears_the_suspicion(conn: Session, outcome: str) -> None:
    job_id = enqueue(conn)
    crash(conn)
    crash(conn)
    alone = register(conn, quarantine=True)
    settle(conn, alone, claim_one(conn, alone), outcome)
    found = job(conn, job_id)
    assert (found["suspect"], found["shared_crashes"]) == (False, 0)


def test_a_failure_does_not_clear_the_suspicion(conn: Session) -> None:
    job_id = enqueue(conn)
    crash(conn)
    crash(conn)
    alone = register(conn, quarantine=True)
    settle(conn, alone, claim_one(conn, alone), "fail", delay=seconds(0))
    assert job(conn, job_id)["suspect"]


# workers and their end


def test_a_worker_that_is_gone_stays_gone(conn: Session) -> None:
    me = register(conn)
    assert beat(conn, me)
    assert mark_gone(conn, me, reason="crashed") == {me: "gone"}
    before = worker(conn, me)
    assert not beat(conn, me)
    assert not row(conn, "SELECT holdfast.register_worker(%s) AS ok", me)["ok"]
    assert mark_gone(conn, me, reason="stopped") == {me: "already"}
    assert worker(conn, me) == before


def test_a_beat_of_a_worker_that_never_registered_is_refused(conn: Session) -> None:
    assert not beat(conn, uuid4())
    stranger = uuid4()
    assert mark_gone(conn, stranger) == {stranger: "unknown"}


def test_a_lapse_is_not_a_reason_that_anybody_may_give(conn: Session) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="lapsed"):
        mark_gone(conn, register(conn), reason="lapsed")


def test_a_worker_is_marked_only_after_its_own_lost_after(conn: Session) -> None:
    slow, quick = register(conn, lost_after=60), register(conn, lost_after=25)
    advance(conn, seconds(24))
    calm(conn)
    assert sweep_workers(conn) == {}
    advance(conn, seconds(2))
    calm(conn)
    swept = sweep_workers(conn)
    assert {each: swept[each]["verdict"] for each in swept} == {quick: "gone"}
    assert worker(conn, quick)["gone_reason"] == "lapsed"
    assert worker(conn, slow)["gone_at"] is None


def test_a_lone_lapse_counts_as_a_crash(conn: Session) -> None:
    (me,), _ = lapse(conn, 1)
    assert sweep_workers(conn)[me]["is_crash"]
    assert worker(conn, me)["gone_is_crash"]


def test_a_worker_that_beats_while_the_sweep_looks_is_not_marked(connect: Connect) -> None:
    mine, other = connect(), connect()
    me = register(mine)
    advance(mine, seconds(26))
    calm(mine)
    other.execute("BEGIN")
    beat(other, me)
    assert sweep_workers(mine) == {}
    other.execute("COMMIT")
    assert sweep_workers(mine) == {}
    assert worker(mine, me)["gone_at"] is None


def test_a_mark_waits_for_a_claim_under_way_and_the_next_rescue_sees_its_rows(connect: Connect) -> None:
    mine, other = connect(), connect()
    job_id = enqueue(mine)
    me = register(mine)
    other.execute("BEGIN")
    claim_one(other, me)
    marking = in_thread(mine, lambda: mark_gone(mine, me))
    wait_until_blocked(other, mine)
    other.execute("COMMIT")
    assert marking() == {me: "gone"}
    assert [each["id"] for each in rescue(mine)] == [job_id]


def test_a_sweep_skips_a_worker_with_a_claim_under_way_and_comes_back(connect: Connect) -> None:
    mine, other = connect(), connect()
    enqueue(mine)
    me = register(mine)
    advance(mine, seconds(26))
    calm(mine)
    other.execute("BEGIN")
    claim_one(other, me)
    assert sweep_workers(mine) == {}
    other.execute("COMMIT")
    assert sweep_workers(mine)[me]["verdict"] == "gone"


def test_a_claim_waits_for_a_mark_under_way_and_finds_its_worker_gone(connect: Connect) -> None:
    mine, other = connect(), connect()
    enqueue(mine)
    me = register(mine)
    other.execute("BEGIN")
    mark_gone(other, me)
    claiming = in_thread(mine, lambda: claim(mine, me))
    wait_until_blocked(other, mine)
    other.execute("COMMIT")
    with pytest.raises(psycopg.Error) as caught:
        claiming()
    assert caught.value.sqlstate == "HF001"


# the brake


def lapse(conn: Session, count: int, *, live: int = 0) -> tuple[list[UUID], list[UUID]]:
    """`count` workers whose last beat is 26 s old, and `live` ones that beat just now; sweeps went on all the time."""
    lapsed = [register(conn) for _ in range(count)]
    advance(conn, seconds(26))
    alive = [register(conn) for _ in range(live)]
    calm(conn)
    return lapsed, alive


def gone_at_each_sweep(conn: Session, *, sweeps: int, alive: list[UUID]) -> list[int]:
    """How many workers each of several sweeps marks, one every 5 s."""
    counts = []
    for _ in range(sweeps):
        for each in alive:
            beat(conn, each)
        counts.append(sum(each["verdict"] == "gone" for each in sweep_workers(conn).values()))
        advance(conn, seconds(5))
    return counts


def test_nobody_is_marked_before_postgres_was_up_for_lost_after(conn: Session) -> None:
    (me,), _ = lapse(conn, 1)
    restart_postgres(conn)
    held = sweep_workers(conn)[me]
    assert (held["verdict"], held["cause"]) == ("held", "postgres_restarted")
    advance(conn, seconds(24))
    calm(conn)
    assert sweep_workers(conn)[me]["verdict"] == "held"
    advance(conn, seconds(2))
    calm(conn)
    marked = sweep_workers(conn)[me]
    assert (marked["verdict"], marked["is_crash"]) == ("gone", False)


def test_nobody_is_marked_when_sweeps_come_back_after_a_pause(conn: Session) -> None:
    me = register(conn)
    calm(conn)
    advance(conn, seconds(26))
    held = sweep_workers(conn)[me]
    assert (held["verdict"], held["cause"]) == ("held", "sweep_resumed")
    counts = gone_at_each_sweep(conn, sweeps=7, alive=[])
    assert counts == [0, 0, 0, 0, 0, 1, 0]
    assert not worker(conn, me)["gone_is_crash"]


def test_a_clock_that_is_set_back_delays_rescues_by_one_hold_and_not_until_that_time_comes_again(conn: Session) -> None:
    calm(conn)
    dead, alive = register(conn), register(conn)
    enqueue(conn)
    run = claim_one(conn, dead)
    advance(conn, -timedelta(hours=1))
    beat(conn, alive)
    assert {found["cause"] for found in sweep_workers(conn).values()} == {"sweep_resumed"}
    assert worker(conn, alive)["seen_at"] <= clock(conn)
    marked: dict[UUID, Row] = {}
    for _ in range(8):
        advance(conn, seconds(5))
        beat(conn, alive)
        marked |= {each: found for each, found in sweep_workers(conn).items() if found["verdict"] == "gone"}
    assert [(each, found["is_crash"]) for each, found in marked.items()] == [(dead, False)]
    assert [(each["id"], each["reason"]) for each in rescue(conn)] == [(run["id"], "worker_gone")]
    advance(conn, seconds(30))
    assert "false_rescue" not in row(conn, "SELECT holdfast.count_events() AS totals")["totals"]


def test_a_server_that_began_to_serve_before_its_clock_was_set_back_holds_nothing_up(conn: Session) -> None:
    restart_postgres(conn)
    advance(conn, -timedelta(hours=1))
    calm(conn)
    silent = register(conn)
    enqueue(conn)
    claim_one(conn, silent)
    for _ in range(8):
        sweep_workers(conn)
        advance(conn, seconds(5))
    assert worker(conn, silent)["gone_reason"] == "lapsed"
    assert len(rescue(conn)) == 1


def test_the_very_first_sweep_of_a_ledger_holds(conn: Session) -> None:
    me = register(conn)
    advance(conn, seconds(26))
    assert sweep_workers(conn)[me]["cause"] == "sweep_resumed"


def test_a_mass_lapse_is_held_for_5_seconds_then_marked_by_quarters(conn: Session) -> None:
    _, alive = lapse(conn, 8, live=2)
    assert gone_at_each_sweep(conn, sweeps=6, alive=alive) == [0, 2, 2, 2, 2, 0]


@pytest.mark.parametrize("count", [4, 5, 6, 7, 9, 11, 30])
def test_a_mass_lapse_is_all_marked_within_25_seconds_of_its_first_sight(conn: Session, count: int) -> None:
    lapsed, _ = lapse(conn, count)
    counts = gone_at_each_sweep(conn, sweeps=6, alive=[])
    assert counts[0] == 0
    assert sum(counts) == count
    assert all(not worker(conn, each)["gone_is_crash"] for each in lapsed)


def test_less_than_half_or_fewer_than_four_workers_are_no_mass_lapse(conn: Session) -> None:
    lapsed, alive = lapse(conn, 4, live=4)
    swept = sweep_workers(conn)
    assert [swept[each]["verdict"] for each in lapsed] == ["gone"] * 4
    mark_gone(conn, *alive, reason="stopped")
    lapsed, _ = lapse(conn, 3)
    assert {each["verdict"] for each in sweep_workers(conn).values()} == {"gone"}


def test_a_worker_that_comes_back_during_the_hold_is_not_marked(conn: Session) -> None:
    lapsed, _ = lapse(conn, 4)
    sweep_workers(conn)
    alive = lapsed[:2]
    gone_at_each_sweep(conn, sweeps=7, alive=alive)
    assert [worker(conn, each)["gone_at"] is None for each in lapsed] == [True, True, False, False]


def test_workers_that_lapse_during_the_hold_wait_for_its_end(conn: Session) -> None:
    lapsed = [register(conn) for _ in range(5)]
    advance(conn, seconds(10))
    late = register(conn)
    advance(conn, seconds(16))
    calm(conn)
    marks = []
    for _ in range(6):
        swept = sweep_workers(conn)
        marks.append([each for each in swept if swept[each]["verdict"] == "gone"])
        advance(conn, seconds(5))
    assert {each for sweep in marks[:5] for each in sweep} == set(lapsed)
    assert marks[5] == [late]


def test_a_recovered_workers_share_of_the_hold_goes_to_nobody_else(conn: Session) -> None:
    lapsed = [register(conn) for _ in range(4)]
    advance(conn, seconds(10))
    late = register(conn)
    advance(conn, seconds(16))
    calm(conn)
    sweep_workers(conn)
    gone_at_each_sweep(conn, sweeps=5, alive=lapsed[:2])
    assert worker(conn, late)["gone_at"] is None


def test_there_is_no_second_hold_before_half_of_the_workers_were_seen_alive(conn: Session) -> None:
    """Six more workers lapse in each sweep: over half of them have lapsed all the time, and none waits for ever."""
    calm(conn)
    marked = []
    for _ in range(8):
        for _ in range(6):
            register(conn, lost_after=4)
        advance(conn, seconds(5))
        marked.append(sum(each["verdict"] == "gone" for each in sweep_workers(conn).values()))
    assert marked == [0, 2, 2, 2, 0, 30, 6, 6]
    for _ in range(4):
        register(conn, lost_after=4)
    assert sweep_workers(conn) == {}
    advance(conn, seconds(5))
    assert {each["cause"] for each in sweep_workers(conn).values()} == {"mass_lapse"}


def test_a_death_that_was_seen_never_waits_for_the_brake(conn: Session) -> None:
    lapsed, _ = lapse(conn, 6)
    restart_postgres(conn)
    assert {each["verdict"] for each in sweep_workers(conn).values()} == {"held"}
    for each in lapsed:
        assert mark_gone(conn, each) == {each: "gone"}


def test_while_the_brake_holds_only_jobs_of_gone_workers_are_taken(conn: Session) -> None:
    _, me = silent_job(conn, timeout=30)
    _, dead = silent_job(conn)
    pass_time(conn, me, seconds(61))
    mark_gone(conn, dead)
    restart_postgres(conn)
    assert [each["reason"] for each in rescue(conn)] == ["worker_gone"]
    advance(conn, seconds(26))
    calm(conn)
    assert [each["reason"] for each in rescue(conn)] == ["deadline_passed"]


def test_deadlines_wait_while_nobody_sweeps_for_gone_workers(conn: Session) -> None:
    _, me = silent_job(conn, timeout=30)
    pass_time(conn, me, seconds(61))
    conn.execute("UPDATE holdfast.monitors SET swept_at = holdfast.clock() - interval '16 seconds'")
    assert rescue(conn) == []
    calm(conn)
    assert len(rescue(conn)) == 1


def test_deadlines_wait_during_a_mass_lapse_and_not_after_it(conn: Session) -> None:
    _, me = silent_job(conn, timeout=30)
    pass_time(conn, me, seconds(40))
    lapse(conn, 6, live=1)
    beat(conn, me)
    sweep_workers(conn)
    assert rescue(conn) == []
    gone_at_each_sweep(conn, sweeps=7, alive=[me])
    assert len(rescue(conn)) == 1


def test_a_sweep_that_meets_another_sweep_has_nothing_to_do(connect: Connect) -> None:
    mine, other = connect(), connect()
    lapse(mine, 1)
    other.execute("BEGIN")
    assert len(sweep_workers(other)) == 1
    mine.execute("SET lock_timeout = '1ms'")
    assert sweep_workers(mine) == {}
    other.execute("ROLLBACK")
    assert len(sweep_workers(mine)) == 1


# find_stale_jobs


def test_find_stale_jobs_says_why_and_changes_nothing(conn: Session) -> None:
    job_id, me = silent_job(conn)
    assert rows(conn, "SELECT * FROM holdfast.stale_jobs_view") == []
    mark_gone(conn, me)
    before = job(conn, job_id)
    (found,) = rows(conn, "SELECT * FROM holdfast.find_stale_jobs()")
    assert (found["id"], found["reason"]) == (job_id, "worker_gone")
    assert len(rows(conn, "SELECT * FROM holdfast.stale_jobs_view")) == 1
    assert job(conn, job_id) == before


# Two sessions at once


def in_thread(conn: Session, action: Callable[[], Answer]) -> Callable[[], Answer]:
    """Run `action` on its session elsewhere; the function returned waits for its answer, or raises its error."""
    conn.execute("SET lock_timeout = '20s'")
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def answer() -> Answer:
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]

    return answer


def wait_until_blocked(observer: Session, waiting: Session) -> None:
    """Until the server itself says that `waiting` waits for a lock; behind a pooler, that anybody here does."""
    query = "SELECT coalesce(bool_or(wait_event_type = 'Lock'), false) AS blocked FROM pg_stat_activity WHERE "
    query += "datname = current_database() AND %s IS NOT NULL" if is_pooled(waiting.info.dsn) else "pid = %s"
    for _ in range(20_000):
        observer.execute("SELECT pg_stat_clear_snapshot()")
        if row(observer, query, waiting.info.backend_pid)["blocked"]:
            return
    raise AssertionError("the other session never waited")


# What happened, in totals


def totals(conn: Session) -> dict[str, int]:
    counted: dict[str, int] = row(conn, "SELECT holdfast.count_events() AS totals")["totals"]
    return counted


def test_events_are_counted_once_by_what_they_were_and_why(conn: Session) -> None:
    for _ in range(2):
        _, me = silent_job(conn, timeout=60)
        pass_time(conn, me, seconds(91))
        assert [rescued["reason"] for rescued in rescue(conn)] == ["deadline_passed"]
    advance(conn, seconds(20))
    assert totals(conn) == {"rescue/deadline_passed": 2}
    assert totals(conn) == {"rescue/deadline_passed": 2}
    conn.execute("TRUNCATE holdfast.job_events")
    assert totals(conn) == {"rescue/deadline_passed": 2}


def test_the_last_seconds_wait_to_be_counted_since_an_earlier_id_may_come_later(conn: Session) -> None:
    _, me = silent_job(conn, timeout=60)
    pass_time(conn, me, seconds(91))
    rescue(conn)
    assert totals(conn) == {}
    advance(conn, seconds(14))
    assert totals(conn) == {}
    advance(conn, seconds(2))
    assert totals(conn) == {"rescue/deadline_passed": 1}


def test_no_more_events_than_asked_for_are_counted_at_a_time(conn: Session) -> None:
    conn.execute(
        "INSERT INTO holdfast.job_events (job_id, at, event, lease)"
        " SELECT gen_random_uuid(), holdfast.clock() - interval '1 hour', 'failure', 1 FROM generate_series(1, 5)"
    )
    seen = [row(conn, "SELECT holdfast.count_events(max_events => 2) AS t")["t"]["failure"] for _ in range(3)]
    assert seen == [2, 4, 5]


def test_a_rescue_from_a_worker_that_was_still_trusted_is_counted_as_false(conn: Session) -> None:
    for silent_for in ("1 second", "1 hour"):
        job_id, me = silent_job(conn)
        conn.execute(
            "UPDATE holdfast.workers SET gone_reason = 'lapsed', gone_at = holdfast.clock(),"
            " seen_at = holdfast.clock() - %s::interval WHERE id = %s",
            (silent_for, me),
        )
        conn.execute(
            "INSERT INTO holdfast.job_events (job_id, at, event, reason, lease, worker_id)"
            " VALUES (%s, holdfast.clock(), 'rescue', 'worker_gone', 1, %s)",
            (job_id, me),
        )
        advance(conn, seconds(16))
    assert totals(conn) == {"rescue/worker_gone": 2, "false_rescue": 1}


# The short way of enqueue


@pytest.mark.parametrize(
    "opts", [{}, {"timeout": 60.5}, {"timeout": None}, {"traceparent": "00-1"}, {"timeout": 1, "traceparent": "00-2"}]
)
def test_a_plain_job_is_the_same_row_whether_it_is_written_alone_or_with_others(conn: Session, opts: Row) -> None:
    alone = enqueue(conn, queue="q", kind="k", args={"a": 1}, **opts)
    traceparents = [opts.get("traceparent")]
    policies = {"policies": [{name: value for name, value in opts.items() if name == "timeout"}]}
    together = uuid4()
    conn.execute(
        "SELECT FROM holdfast.enqueue_many(%s, '{q}', '{k}', %s, traceparents => %s::text[], opts => %s)",
        ([together], [Jsonb({"a": 1})], traceparents, Jsonb(policies)),
    )
    own = {"id", "run_at", "created_at"}
    one, other = (
        {name: value for name, value in job(conn, each).items() if name not in own} for each in (alone, together)
    )
    assert one == other
    assert job(conn, alone)["run_at"] == job(conn, alone)["created_at"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"queue": "q" * 201}, "queue must have 1 to 200 characters"),
        ({"kind": ""}, "kind must have 1 to 200 characters"),
        ({"timeout": 0}, "timeout is out of range"),
        ({"max_attempts": 0}, "max_attempts is out of range"),
        ({"max_attempts": 10**30}, "max_attempts is out of range"),
        ({"max_crashes": 1_000_001}, "max_crashes is out of range"),
        ({"timeout": 1e9}, "timeout is out of range"),
    ],
)
def test_what_is_wrong_with_one_job_is_told_as_with_many(conn: Session, given: Row, why: str) -> None:
    with pytest.raises(psycopg.errors.DatabaseError, match=why):
        enqueue(conn, **given)
