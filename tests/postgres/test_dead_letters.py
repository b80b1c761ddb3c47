"""Dead letters, incidents and notifications in the ledger: each told once, whoever tells, whatever is repeated."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.support import (
    Row,
    Session,
    advance,
    claim_one,
    enqueue,
    mark_gone,
    register,
    rescue,
    retry,
    row,
    rows,
    seconds,
    settle,
)

LATER = seconds(16)


def dies(conn: Session, *, fingerprint: str = "ValueError:1", worker: UUID | None = None) -> UUID:
    worker = worker or register(conn)
    enqueue(conn)
    run = claim_one(conn, worker)
    error = {"type": "ValueError", "message": "secret=hunter2", "traceback": ""}
    settle(conn, worker, run, "fail", error=error, fingerprint=fingerprint)
    id: UUID = run["id"]
    return id


def collect(conn: Session) -> int:
    new: int = row(conn, "SELECT holdfast.collect_dead_jobs() AS n")["n"]
    return new


def letters(conn: Session) -> list[Row]:
    return rows(conn, "SELECT * FROM holdfast.dead_letters ORDER BY first_seen_at, key")


def groups(conn: Session) -> dict[str, Row]:
    return {each["fingerprint"]: each for each in rows(conn, "SELECT * FROM holdfast.dead_letter_groups()")}


def change(action: str, key: str, *, kind: str = "dead_letters", **more: Any) -> Row:
    return {
        "id": str(uuid4()),
        "action": action,
        "kind": kind,
        "key": key,
        "title": f"{key} died",
        "content": {},
        **more,
    }


def record(conn: Session, *changes: Row, channels: list[str] | None = None) -> list[Row]:
    return rows(
        conn, "SELECT * FROM holdfast.record_incidents(%s, %s::text[])", Jsonb(list(changes)), channels or ["log"]
    )


def notifications(conn: Session) -> list[Row]:
    return rows(conn, "SELECT * FROM holdfast.notifications ORDER BY created_at, channel")


# Jobs


def test_a_job_that_failed_for_the_last_time_is_a_dead_letter_after_a_moment(conn: Session) -> None:
    id = dies(conn)
    assert collect(conn) == 0, "the last seconds wait: a row may be drawn before it is committed"
    advance(conn, LATER)
    assert collect(conn) == 1
    assert collect(conn) == 0
    (letter,) = letters(conn)
    assert (letter["source"], letter["queue"], letter["kind"], letter["cause"]) == (
        "job",
        "default",
        "report",
        "ValueError",
    )
    assert (letter["job_id"], letter["fingerprint"], letter["incident_id"]) == (str(id), "ValueError:1", None)
    assert letter["body"] is None


def test_a_job_that_a_rescue_made_dead_is_one_too(conn: Session) -> None:
    worker = register(conn)
    enqueue(conn, rescue="dead")
    run = claim_one(conn, worker)
    mark_gone(conn, worker)
    (rescued,) = rescue(conn)
    assert rescued["status"] == "dead"
    advance(conn, LATER)
    assert collect(conn) == 1
    (letter,) = letters(conn)
    assert (letter["job_id"], letter["cause"]) == (str(run["id"]), "worker_gone")


def test_what_failed_and_is_tried_again_is_none(conn: Session) -> None:
    worker = register(conn)
    enqueue(conn)
    settle(conn, worker, claim_one(conn, worker), "fail", error={"type": "x"}, delay=seconds(1), fingerprint="x")
    advance(conn, LATER)
    assert collect(conn) == 0


def test_a_retried_job_is_gone_and_dies_again_as_a_new_letter(conn: Session) -> None:
    worker = register(conn)
    id = dies(conn, worker=worker)
    advance(conn, LATER)
    collect(conn)
    retry(conn, id)
    advance(conn, LATER)
    collect(conn)
    assert [letter["gone_at"] is not None for letter in letters(conn)] == [True]
    settle(conn, worker, claim_one(conn, worker), "fail", error={"type": "ValueError"}, fingerprint="ValueError:1")
    advance(conn, LATER)
    assert collect(conn) == 1
    assert [letter["gone_at"] is None for letter in letters(conn)] == [False, True]


def test_of_more_letters_than_are_seen_after_at_a_time_all_are_in_turn(conn: Session) -> None:
    worker = register(conn)
    ids = [dies(conn, worker=worker, fingerprint=f"cause {number}") for number in range(5)]
    advance(conn, LATER)
    collect(conn)
    retry(conn, ids[3], ids[4])
    for _ in range(3):
        conn.execute("SELECT holdfast.collect_dead_jobs(2)")
    gone = {letter["job_id"] for letter in letters(conn) if letter["gone_at"] is not None}
    assert gone == {str(ids[3]), str(ids[4])}
    retry(conn, *ids)
    assert [collect(conn), collect(conn)] == [0, 0]
    assert all(letter["gone_at"] is not None for letter in letters(conn))


def test_a_job_that_died_and_was_retried_between_two_looks_is_told_all_the_same(conn: Session) -> None:
    id = dies(conn)
    retry(conn, id)
    advance(conn, LATER)
    assert collect(conn) == 1
    assert groups(conn)["ValueError:1"]["untold"] == 1


def test_whoever_begins_with_an_old_ledger_is_told_of_the_last_hour_only(conn: Session) -> None:
    dies(conn, fingerprint="old")
    advance(conn, timedelta(hours=2))
    dies(conn, fingerprint="new")
    advance(conn, LATER)
    assert collect(conn) == 1
    assert set(groups(conn)) == {"new"}


def test_two_who_collect_at_once_collect_once(conn: Session, connect: Any) -> None:
    dies(conn)
    advance(conn, LATER)
    other = connect()
    with conn.transaction():
        assert collect(conn) == 1
        assert collect(other) == 0
    assert collect(other) == 0
    assert len(letters(conn)) == 1


# Messages


def note(conn: Session, *keys: str, complete: bool = True, fingerprint: str = "f") -> int:
    found = [{"id": str(uuid4()), "key": key, "fingerprint": fingerprint, "body": "{}", "received": 2} for key in keys]
    new: int = row(conn, "SELECT holdfast.note_dead_letters('dlq', %s, %s) AS n", Jsonb(found), complete)["n"]
    return new


def vanish(conn: Session) -> None:
    """Two complete looks that find nothing."""
    note(conn)
    note(conn)


def test_a_message_is_new_once_and_gone_when_two_complete_looks_in_a_row_miss_it(conn: Session) -> None:
    assert note(conn, "a", "b") == 2
    assert note(conn, "a", "b", "c") == 1
    assert note(conn, "a", complete=False) == 0
    assert groups(conn)["f"]["present"] == 3
    advance(conn, seconds(1))
    assert note(conn, "a") == 0
    assert groups(conn)["f"]["present"] == 3, "one look may be wrong"
    assert note(conn, "a", "b") == 0
    advance(conn, seconds(1))
    note(conn, "a")
    assert groups(conn)["f"]["present"] == 2, "b was seen in between"
    note(conn, "a")
    assert groups(conn)["f"]["present"] == 1


def test_a_message_that_comes_back_is_news_again(conn: Session) -> None:
    note(conn, "a")
    record(conn, change("open", "f"))
    vanish(conn)
    assert (groups(conn)["f"]["untold"], groups(conn)["f"]["present"]) == (0, 0)
    note(conn, "a")
    assert (groups(conn)["f"]["untold"], groups(conn)["f"]["present"]) == (1, 1)


# Incidents


def test_an_incident_marks_its_letters_and_is_told_to_each_channel_in_one_transaction(conn: Session) -> None:
    note(conn, "a", "b")
    (written,) = record(conn, change("open", "f"), channels=["slack", "pager"])
    assert (written["action"], written["arrivals"]) == ("open", 2)
    assert {letter["incident_id"] for letter in letters(conn)} == {written["id"]}
    assert [(each["channel"], each["reason"]) for each in notifications(conn)] == [
        ("pager", "first"),
        ("slack", "first"),
    ]


def test_two_who_decide_the_same_tell_it_once(conn: Session) -> None:
    note(conn, "a")
    assert len(record(conn, change("open", "f"))) == 1
    assert record(conn, change("open", "f")) == []
    assert record(conn, change("worse", "f")) == [], "no letter is untold any more"
    assert len(notifications(conn)) == 1
    vanish(conn)
    assert len(record(conn, change("resolve", "f"))) == 1
    assert record(conn, change("resolve", "f")) == []
    assert [each["reason"] for each in notifications(conn)] == ["first", "resolved"]


def test_what_arrives_later_is_told_as_worse_and_added_up(conn: Session) -> None:
    note(conn, "a")
    record(conn, change("open", "f"))
    note(conn, "a", "b", "c")
    (written,) = record(conn, change("worse", "f"))
    assert written["arrivals"] == 2
    assert row(conn, "SELECT arrivals, status FROM holdfast.incidents") == {"arrivals": 3, "status": "open"}


def test_the_same_cause_opens_anew_after_it_was_resolved(conn: Session) -> None:
    for _ in range(2):
        record(conn, change("open", "q", kind="blind", arrivals=1))
        record(conn, change("resolve", "q", kind="blind"))
    states = rows(conn, "SELECT status FROM holdfast.incidents")
    assert [each["status"] for each in states] == ["resolved", "resolved"]


def test_channels_that_an_alerter_announced_are_told_by_whoever_sweeps_and_the_log_only_alone(conn: Session) -> None:
    conn.execute(
        "UPDATE holdfast.monitors SET last_result = jsonb_build_object('channels', jsonb_build_object("
        " 'slack', holdfast.clock(), 'old', holdfast.clock() - interval '2 days')) WHERE name = 'deliver_notifications'"
    )
    record(conn, change("open", "q", kind="blind", arrivals=1), channels=["log"])
    assert [each["channel"] for each in notifications(conn)] == ["slack"]


# Notifications


def claim(conn: Session, *channels: str, lease: float = 60) -> list[Row]:
    return rows(conn, "SELECT * FROM holdfast.claim_notifications(%s::text[], 10, %s)", list(channels), seconds(lease))


def test_a_notification_is_taken_by_one_and_by_another_when_that_one_died(conn: Session) -> None:
    record(conn, change("open", "q", kind="blind", arrivals=1), channels=["slack"])
    (taken,) = claim(conn, "slack")
    assert taken["attempts"] == 1
    assert claim(conn, "slack") == []
    advance(conn, seconds(61))
    (again,) = claim(conn, "slack")
    assert (again["id"], again["attempts"]) == (taken["id"], 2)


def test_one_that_failed_comes_again_when_it_is_due_and_a_delivered_one_never(conn: Session) -> None:
    record(conn, change("open", "q", kind="blind", arrivals=1), channels=["slack"])
    (taken,) = claim(conn, "slack")
    conn.execute("SELECT holdfast.settle_notification(%s, 'Slack answers 500', '30 s')", (taken["id"],))
    assert claim(conn, "slack") == []
    advance(conn, seconds(31))
    (again,) = claim(conn, "slack")
    conn.execute("SELECT holdfast.settle_notification(%s, NULL, NULL)", (again["id"],))
    advance(conn, seconds(3600))
    assert claim(conn, "slack") == []
    assert notifications(conn)[0]["delivered_at"] is not None


def test_nobody_takes_what_is_for_a_channel_that_they_do_not_have(conn: Session) -> None:
    record(conn, change("open", "q", kind="blind", arrivals=1), channels=["slack"])
    assert claim(conn, "log") == []


def test_an_incident_of_which_letters_are_left_is_not_over(conn: Session) -> None:
    note(conn, "a")
    record(conn, change("open", "f"))
    assert record(conn, change("resolve", "f")) == []
    vanish(conn)
    assert len(record(conn, change("resolve", "f"))) == 1


def test_bookkeeping_is_forgotten_in_time(conn: Session) -> None:
    note(conn, "a")
    record(conn, change("open", "f"))
    vanish(conn)
    record(conn, change("resolve", "f"))
    while taken := claim(conn, "log"):
        for each in taken:
            conn.execute("SELECT holdfast.settle_notification(%s, NULL, NULL)", (each["id"],))
    advance(conn, timedelta(days=89))
    assert row(conn, "SELECT holdfast.prune_letters() AS n")["n"] == 0
    advance(conn, timedelta(days=2))
    assert row(conn, "SELECT holdfast.prune_letters() AS n")["n"] == 4
    assert letters(conn) == notifications(conn) == rows(conn, "SELECT * FROM holdfast.incidents") == []


@pytest.mark.parametrize("age", ["23 hours", "25 hours"])
def test_an_idempotency_key_is_forgotten_after_a_day(conn: Session, age: str) -> None:
    conn.execute(
        "INSERT INTO holdfast.idempotency_keys (scope, key, request_hash, created_at)"
        " VALUES ('s', 'k', 'h', holdfast.clock() - %s::interval)",
        (age,),
    )
    assert row(conn, "SELECT holdfast.prune_bookkeeping() AS n")["n"] == (1 if age == "25 hours" else 0)
