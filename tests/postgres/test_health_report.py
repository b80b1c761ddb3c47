"""The look at the ledger: what it brings, and that it stays cheap on large tables."""

from typing import Any

import pytest

from tests.support import (
    Session,
    advance,
    cancel,
    claim_one,
    clock,
    enqueue,
    register,
    row,
    seconds,
    settle,
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
    assert found["ended"]["of"] == 0


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


def test_what_ended_within_the_hour_is_counted_and_timed(conn: Session) -> None:
    worker = register(conn)
    for outcome in ("complete", "complete", "fail"):
        enqueue(conn)
        run = claim_one(conn, worker)
        advance(conn, seconds(4))
        settle(conn, worker, run, outcome)
    cancel(conn, enqueue(conn))
    found = report(conn)
    ended = found["ended"]
    assert (ended["of"], ended["succeeded"], ended["dead"], ended["cancelled"]) == (4, 2, 1, 1)
    assert ended["run"][0] == pytest.approx(4, abs=1)
    assert found["dead"] == 1
    advance(conn, seconds(3600))
    assert report(conn)["ended"]["of"] == 0


def test_stuck_jobs_are_counted_by_reason(conn: Session) -> None:
    worker = register(conn)
    enqueue(conn)
    claim_one(conn, worker)
    conn.execute("SELECT holdfast.mark_workers_gone(ARRAY[%s]::uuid[], 'crashed')", (worker,))
    assert report(conn)["stale"] == {"count": 1, "reasons": {"worker_gone": 1}}


def test_a_monitor_tells_how_often_it_sweeps_and_when_it_did(conn: Session) -> None:
    conn.execute("UPDATE holdfast.monitors SET every = '5 s', swept_at = holdfast.clock() WHERE name = 'prune'")
    advance(conn, seconds(30))
    sweep_workers(conn)
    monitors = {each["name"]: each for each in report(conn)["monitors"]}
    assert monitors["prune"]["every"] == 5
    assert 30 <= monitors["prune"]["swept_ago"] < 60
    assert monitors["mark_workers_gone"]["swept_ago"] < 30


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
    assert (found["queues"][0]["queued"], found["dead"], found["ended"]["of"]) == (1001, 1001, 1000)
    assert read < 6000, f"{read} blocks were read"
