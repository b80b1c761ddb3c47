"""The look at the ledger: what it brings, and that it stays cheap on large tables."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support import (
    Session,
    advance,
    claim_one,
    clock,
    enqueue,
    mark_gone,
    register,
    rescue,
    row,
    rows,
    seconds,
    sweep_workers,
)


def report(conn: Session) -> dict[str, Any]:
    found: dict[str, Any] = row(conn, "SELECT holdfast.health_report() AS found")["found"]
    return found


def queue(conn: Session, name: str = "default") -> dict[str, Any]:
    (found,) = [each for each in report(conn)["queues"] if each["name"] == name]
    return found


def test_an_empty_ledger_has_a_report(conn: Session) -> None:
    found = report(conn)
    assert (found["queues"], found["unknown_kinds"], found["running"], found["dead"]) == ([], [], 0, 0)
    assert found["workers"]["live"] == 0
    assert {monitor["name"] for monitor in found["monitors"]} >= {"rescue_stale_jobs", "prune"}
    assert (found["ended"]["succeeded"], found["ended"]["since"], found["totals"]) == (0, None, [])


def test_a_queue_tells_its_depth_what_runs_and_how_long_the_oldest_due_job_waits(conn: Session) -> None:
    register(conn)
    enqueue(conn, priority=-5)
    advance(conn, seconds(100))
    enqueue(conn)
    enqueue(conn, delay=1000)
    claim_one(conn, register(conn))
    found = queue(conn)
    assert (found["queued"], found["running"], found["workers"]) == (2, 1, 1)
    assert 0 <= found["due_for"] < 50
    advance(conn, seconds(20))
    assert 20 <= queue(conn)["due_for"] < 70


def test_the_oldest_due_job_is_found_in_whatever_lane_and_priority_it_is(conn: Session) -> None:
    enqueue(conn, priority=900, kind="other", group_key="g")
    advance(conn, seconds(300))
    for number in range(20):
        enqueue(conn, priority=-900, group_key=f"g{number}")
    assert queue(conn)["due_for"] >= 300


def test_a_queue_tells_the_free_slots_of_the_workers_that_serve_it(conn: Session) -> None:
    mail = register(conn, queues=["mail"], slots=2)
    register(conn, queues=["mail", "other"], slots=3)
    for _ in range(2):
        enqueue(conn, queue="mail")
        claim_one(conn, mail, queues=["mail"])
    enqueue(conn, queue="nobody")
    assert [queue(conn, name)["room"] for name in ("mail", "other", "nobody")] == [3, 3, 0]


def test_of_many_queues_those_whose_jobs_wait_longest_are_told_then_those_that_are_served(conn: Session) -> None:
    register(conn, queues=[f"idle-{number:03}" for number in range(150)])
    conn.execute("UPDATE holdfast.workers SET gone_at = holdfast.clock(), gone_reason = 'stopped'")
    enqueue(conn, queue="z-waits-longest")
    advance(conn, seconds(100))
    enqueue(conn, queue="y-waits")
    register(conn, queues=["served"])
    told = {each["name"]: each for each in report(conn)["queues"]}
    assert len(told) == 100
    assert told["z-waits-longest"]["due_for"] >= 100
    assert {"y-waits", "served"} <= told.keys()


def test_a_thousand_waiting_groups_hide_no_other_queue_or_kind(conn: Session) -> None:
    register(conn)
    now = clock(conn)
    conn.execute(
        "INSERT INTO holdfast.jobs (id, queue, kind, args, group_key, run_at, created_at)"
        " SELECT gen_random_uuid(), 'a', 'first', '{}', 'g' || n, %s, %s FROM generate_series(1, 3000) AS n",
        (now, now),
    )
    enqueue(conn, queue="a", kind="second")
    enqueue(conn, queue="b")
    advance(conn, seconds(100))
    found = report(conn)
    assert all(queue(conn, name)["due_for"] >= 100 for name in ("a", "b"))
    assert {"second", "first"} <= {each["kind"] for each in found["unknown_kinds"]}


def test_jobs_for_later_are_not_due(conn: Session) -> None:
    enqueue(conn, delay=1000)
    assert queue(conn)["due_for"] is None


def test_a_queue_that_nobody_has_registered_is_seen_all_the_same(conn: Session) -> None:
    enqueue(conn, queue="mistyped")
    assert queue(conn, "mistyped")["workers"] == 0


def test_due_jobs_of_a_kind_that_no_live_worker_of_their_queue_knows_are_named(conn: Session) -> None:
    register(conn, queues=["default"], kinds=["report"])
    register(conn, queues=["elsewhere"], kinds=["stranger"])
    enqueue(conn, kind="report")
    enqueue(conn, kind="stranger")
    enqueue(conn, kind="later", delay=1000)
    (found,) = report(conn)["unknown_kinds"]
    assert (found["queue"], found["kind"]) == ("default", "stranger")


def test_workers_are_live_silent_or_draining(conn: Session) -> None:
    register(conn, slots=7)
    advance(conn, seconds(100))
    register(conn, slots=3)
    found = report(conn)["workers"]
    assert (found["live"], found["silent"], found["slots"]) == (1, 1, 3)


def counts(**given: Any) -> dict[str, Any]:
    """What a worker counted of one queue and kind."""
    usual = {"queue": "default", "kind": "report", "succeeded": 0, "failed": 0, "dead": 0, "cancelled": 0}
    return {**usual, "waited": 0.5, "ran": 2.0, "waits": [1] + [0] * 18, "runs": [0] * 18 + [1], **given}


def note(conn: Session, worker: Any, number: int, *told: dict[str, Any]) -> bool:
    said = row(conn, "SELECT holdfast.note_job_stats(%s, %s, %s) AS new", worker, number, Jsonb(list(told)))
    return bool(said["new"])


def test_what_workers_counted_within_the_hour_is_added_up_and_the_totals_stay(conn: Session) -> None:
    one, other = register(conn), register(conn)
    assert note(conn, one, 1, counts(succeeded=2), counts(kind="other", dead=1))
    assert note(conn, other, 1, counts(succeeded=3, cancelled=1))
    ended = report(conn)["ended"]
    assert (ended["succeeded"], ended["dead"], ended["cancelled"]) == (5, 1, 1)
    assert (ended["waits"][0], ended["runs"][18], ended["since"] < 60) == (3, 3, True)
    advance(conn, seconds(3660))
    found = report(conn)
    assert (found["ended"]["succeeded"], found["ended"]["since"]) == (0, None)
    (total,) = [each for each in found["totals"] if each["kind"] == "report"]
    assert (total["succeeded"], total["waited"], total["waits"][0]) == (5, 1.0, 2)


def test_what_a_worker_tells_twice_counts_once(conn: Session) -> None:
    worker = register(conn)
    assert note(conn, worker, 1, counts(succeeded=2))
    assert not note(conn, worker, 1, counts(succeeded=2)), "the answer was lost, and it told once more"
    assert note(conn, worker, 2, counts(succeeded=1))
    assert report(conn)["ended"]["succeeded"] == 3


def test_counting_waits_half_a_second_for_a_row_that_somebody_holds(
    conn: Session, connect: Callable[[], Session]
) -> None:
    worker, other = register(conn), connect()
    note(conn, worker, 1, counts(succeeded=1))
    with other.transaction():
        other.execute("SELECT FROM holdfast.job_stats FOR UPDATE")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            note(conn, worker, 2, counts(succeeded=1))
    assert note(conn, worker, 2, counts(succeeded=1)), "nothing of it was kept"


def test_a_death_by_rescue_is_counted_once_when_events_are_counted(conn: Session) -> None:
    worker = register(conn)
    job_id = enqueue(conn)
    conn.execute("UPDATE holdfast.jobs SET rescue_policy = 'dead' WHERE id = %s", (job_id,))
    claim_one(conn, worker)
    mark_gone(conn, worker)
    (rescued,) = rescue(conn)
    assert rescued["status"] == "dead"
    advance(conn, seconds(20))
    for _ in range(2):
        conn.execute("SELECT holdfast.count_events()")
    assert report(conn)["ended"]["dead"] == 1


def test_minutes_are_kept_for_eight_days_and_totals_longer(conn: Session) -> None:
    note(conn, register(conn), 1, counts(succeeded=1))
    advance(conn, seconds(9 * 86400))
    conn.execute("SELECT holdfast.prune_bookkeeping()")
    assert [each["minute"] for each in rows(conn, "SELECT minute::text FROM holdfast.job_stats")] == ["infinity"]


def test_stuck_jobs_are_counted_by_reason(conn: Session) -> None:
    worker = register(conn)
    enqueue(conn)
    claim_one(conn, worker)
    conn.execute("SELECT holdfast.mark_workers_gone(ARRAY[%s]::uuid[], 'crashed')", (worker,))
    assert report(conn)["stale"] == {"count": 1, "reasons": {"worker_gone": 1}}


def letters(conn: Session, source: str, queue: str, many: int, *, age: float = 0.0, gone: bool = False) -> None:
    conn.execute(
        "INSERT INTO holdfast.dead_letters (id, source, queue, key, fingerprint, sent_at, first_seen_at, last_seen_at,"
        "   gone_at)"
        " SELECT gen_random_uuid(), %s, %s, gen_random_uuid()::text, 'f', holdfast.clock() - %s, holdfast.clock(),"
        "   holdfast.clock(), CASE WHEN %s THEN holdfast.clock() END FROM generate_series(1, %s)",
        (source, queue, seconds(age), gone, many),
    )


def test_messages_in_dead_letter_queues_are_told_by_queue_and_dead_jobs_are_none(conn: Session) -> None:
    letters(conn, "job", "mail", 3)
    letters(conn, "sqs", "orders-dlq", 2, age=90.0)
    letters(conn, "sqs", "orders-dlq", 1, age=600.0, gone=True)
    letters(conn, "sqs", "big-dlq", 1500)
    found = report(conn)
    assert found["letters"] == 1001
    told = {each["name"]: each for each in found["letter_queues"]}
    assert {name: each["letters"] for name, each in told.items()} == {"orders-dlq": 2, "big-dlq": 1001}
    assert told["big-dlq"]["oldest"] < 90 <= told["orders-dlq"]["oldest"] < 600


def test_the_longest_silence_of_a_queue_s_runs_is_told(conn: Session) -> None:
    worker = register(conn)
    enqueue(conn)
    claim_one(conn, worker)
    advance(conn, seconds(70))
    enqueue(conn)
    claim_one(conn, worker)
    conn.execute(
        "UPDATE holdfast.jobs SET heartbeat_at = holdfast.clock() - interval '40 s'"
        " WHERE claimed_at < holdfast.clock() - interval '1 min'"
    )
    found = queue(conn)
    assert 40 <= found["longest_silence"] < 70 <= found["longest_run"]


def test_a_monitor_tells_how_often_it_sweeps_and_when_it_did(conn: Session) -> None:
    conn.execute("UPDATE holdfast.monitors SET every = '5 s', swept_at = holdfast.clock() WHERE name = 'prune'")
    advance(conn, seconds(30))
    sweep_workers(conn)
    monitors = {each["name"]: each for each in report(conn)["monitors"]}
    assert monitors["prune"]["every"] == 5
    assert 30 <= monitors["prune"]["swept_ago"] < 60
    assert monitors["mark_workers_gone"]["swept_ago"] < 30


@pytest.mark.full
def test_a_million_jobs_are_not_counted(conn: Session) -> None:
    """1,000,000 waiting, 300,000 ended: what is read stays within bounds."""
    now = clock(conn)
    conn.execute(
        "INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, created_at)"
        " SELECT gen_random_uuid(), 'default', 'report', '{}', %s, %s FROM generate_series(1, 1000000)",
        (now, now),
    )
    conn.execute(
        "INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, created_at, status, claimed_at, finished_at)"
        " SELECT gen_random_uuid(), 'default', 'report', '{}', %s, %s,"
        " CASE n %% 10 WHEN 0 THEN 'dead' ELSE 'succeeded' END, %s, %s FROM generate_series(1, 300000) AS n",
        (now, now, now, now),
    )
    conn.execute("VACUUM ANALYZE holdfast.jobs")
    explained = conn.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT holdfast.health_report()").fetchone()
    assert explained is not None
    plan = explained["QUERY PLAN"][0]["Plan"]
    read = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    found = report(conn)
    assert (found["queues"][0]["queued"], found["dead"]) == (1001, 1001)
    assert read < 6000, f"{read} blocks were read"
