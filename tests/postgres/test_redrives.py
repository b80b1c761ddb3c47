"""Redrives in the ledger: a frozen selection, one life a job, nothing by two at once, and a line of lives."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.postgres.test_dead_letters import LATER, collect, dies
from tests.support import Row, Session, advance, claim_one, events, job, register, retry, row, rows, seconds, settle

OWNER = uuid4()


def dead(conn: Session, count: int, *, fingerprint: str = "ValueError:1") -> list[UUID]:
    worker = register(conn)
    ids = [dies(conn, fingerprint=fingerprint, worker=worker) for _ in range(count)]
    advance(conn, LATER)
    collect(conn)
    return ids


def begin(conn: Session, wanted: Row, **opts: Any) -> tuple[UUID, Row]:
    id = uuid4()
    frozen = row(
        conn, "SELECT * FROM holdfast.redrive_dead_letters(%s, %s, %s)", id, Jsonb(wanted), Jsonb({"by": "ada", **opts})
    )
    return id, frozen


def claim(conn: Session, owner: UUID = OWNER, one: UUID | None = None, lease: float = 60) -> list[Row]:
    return rows(conn, "SELECT * FROM holdfast.claim_redrive(%s, %s, %s)", owner, seconds(lease), one)


def send(conn: Session, id: UUID, most: int = 100, owner: UUID = OWNER) -> int:
    done: int = row(conn, "SELECT holdfast.redrive_jobs(%s, %s, %s) AS n", id, owner, most)["n"]
    return done


def change(conn: Session, id: UUID, action: str) -> str:
    status: str = row(conn, "SELECT holdfast.change_redrive(%s, %s, 'for a test') AS s", id, action)["s"]
    return status


def letters(conn: Session, id: UUID) -> list[str]:
    found = rows(conn, "SELECT status FROM holdfast.redrive_letters WHERE redrive_id = %s ORDER BY position", id)
    return [each["status"] for each in found]


def note(conn: Session, *messages: Row) -> None:
    given = [{"id": str(uuid4()), "fingerprint": "f", "body": "{}", **each} for each in messages]
    conn.execute("SELECT holdfast.note_dead_letters('dlq', %s, false)", (Jsonb(given),))


def die_again(conn: Session, worker: UUID, *, fingerprint: str) -> None:
    settle(conn, worker, claim_one(conn, worker), "fail", error={"type": "ValueError"}, fingerprint=fingerprint)


def test_a_redrive_of_a_group_gives_its_jobs_another_life_and_leaves_the_others(conn: Session) -> None:
    ours, others = dead(conn, 3), dead(conn, 2, fingerprint="KeyError:1")
    id, frozen = begin(conn, {"fingerprint": "ValueError:1"})
    assert frozen == {"total": 3, "quarantined": 0, "busy": 0}
    assert claim(conn)[0]["waiting"] == 3
    assert send(conn, id) == 3
    assert [job(conn, each)["status"] for each in ours] == ["queued"] * 3
    assert [job(conn, each)["status"] for each in others] == ["dead"] * 2
    assert events(conn, ours[0])[-1]["event"] == "redrive"
    decided = rows(conn, "SELECT outcome, outcome_by FROM holdfast.dead_letters WHERE gone_at IS NOT NULL")
    assert {(each["outcome"], each["outcome_by"]) for each in decided} == {("redriven", "ada")}
    worker = register(conn)
    for _ in ours:
        settle(conn, worker, claim_one(conn, worker), "complete")
    assert claim(conn)[0]["succeeded"] == 3


def test_what_arrives_after_the_look_is_in_no_redrive(conn: Session) -> None:
    dead(conn, 2)
    id, _ = begin(conn, {})
    late = dead(conn, 1)
    claim(conn)
    send(conn, id)
    assert job(conn, late[0])["status"] == "dead"
    assert letters(conn, id) == ["sent"] * 2


def test_asked_for_twice_with_one_id_it_is_one_redrive(conn: Session) -> None:
    dead(conn, 2)
    id, _ = begin(conn, {})
    again = row(conn, "SELECT * FROM holdfast.redrive_dead_letters(%s, '{}')", id)
    assert again["total"] == 2
    assert len(letters(conn, id)) == 2


def test_a_letter_is_in_one_redrive_at_a_time(conn: Session) -> None:
    dead(conn, 2)
    first, _ = begin(conn, {})
    assert begin(conn, {})[1] == {"total": 0, "quarantined": 0, "busy": 2}
    assert change(conn, first, "cancel") == "cancelled"
    assert letters(conn, first) == ["left"] * 2
    assert begin(conn, {})[1]["total"] == 2


def test_one_process_works_at_it_and_another_goes_on_when_that_was_killed(conn: Session) -> None:
    dead(conn, 3)
    id, _ = begin(conn, {})
    other = uuid4()
    assert claim(conn)
    send(conn, id, 1)
    assert claim(conn, other) == []
    assert send(conn, id, owner=other) == 0, "who does not hold it changes nothing"
    advance(conn, seconds(61))
    assert claim(conn, other)[0]["waiting"] == 2
    assert send(conn, id, owner=OWNER) == 0
    assert send(conn, id, owner=other) == 2


def test_a_job_that_somebody_retried_meanwhile_is_not_given_two_lives(conn: Session) -> None:
    one, other = dead(conn, 2)
    id, _ = begin(conn, {})
    retry(conn, one)
    lease = job(conn, one)["lease"]
    claim(conn)
    assert send(conn, id) == 2
    assert sorted(letters(conn, id)) == ["sent", "skipped"]
    assert job(conn, one)["lease"] == lease
    assert job(conn, other)["status"] == "queued"


def test_a_job_that_dies_again_of_the_same_cause_is_seen_at_once_and_linked_to_its_earlier_life(conn: Session) -> None:
    (id,) = dead(conn, 1)
    redrive, _ = begin(conn, {})
    claim(conn)
    send(conn, redrive)
    die_again(conn, register(conn), fingerprint="ValueError:1")
    assert {name: claim(conn)[0][name] for name in ("returned", "same")} == {"returned": 1, "same": 1}
    assert change(conn, redrive, "stop") == "stopped"
    advance(conn, LATER)
    collect(conn)
    (letter,) = rows(conn, "SELECT * FROM holdfast.dead_letters WHERE gone_at IS NULL")
    assert (letter["job_id"], letter["returns"]) == (str(id), 1)
    lives = rows(conn, "SELECT * FROM holdfast.letter_history(%s)", letter["id"])
    assert [(each["returns"], each["requested_by"], each["status"]) for each in lives] == [
        (0, "ada", "returned"),
        (1, None, None),
    ]


def test_one_that_dies_of_another_cause_is_no_reason_to_stop(conn: Session) -> None:
    dead(conn, 1)
    redrive, _ = begin(conn, {})
    claim(conn)
    send(conn, redrive)
    die_again(conn, register(conn), fingerprint="KeyError:1")
    assert {name: claim(conn)[0][name] for name in ("returned", "same")} == {"returned": 1, "same": 0}


def test_what_came_back_three_times_is_left_out_unless_it_is_asked_for_by_its_id(conn: Session) -> None:
    (id,) = dead(conn, 1)
    worker = register(conn)
    for _ in range(3):
        retry(conn, id)
        die_again(conn, worker, fingerprint="ValueError:1")
        advance(conn, LATER)
        collect(conn)
    assert row(conn, "SELECT * FROM holdfast.letter_groups()")["quarantined"] == 1
    assert begin(conn, {})[1] == {"total": 0, "quarantined": 1, "busy": 0}
    assert begin(conn, {}, quarantine_after=5)[1]["total"] == 1


def test_a_letter_in_quarantine_is_sent_by_its_id(conn: Session) -> None:
    note(conn, {"key": "m"})
    (letter,) = rows(conn, "SELECT id::text FROM holdfast.dead_letters")
    conn.execute("UPDATE holdfast.dead_letters SET returns = 9")
    assert begin(conn, {})[1]["total"] == 0
    assert begin(conn, {"ids": [letter["id"]]})[1]["total"] == 1


def test_a_message_that_comes_back_is_linked_to_the_letter_that_was_sent(conn: Session) -> None:
    note(conn, {"key": "m", "job_id": "0"})
    redrive, _ = begin(conn, {})
    claim(conn)
    (message,) = rows(conn, "SELECT * FROM holdfast.take_redrive_messages(%s, %s, 10)", redrive, OWNER)
    assert (message["again"], message["captured"]) == (False, False)
    again = row(conn, "SELECT * FROM holdfast.take_redrive_messages(%s, %s, 10)", redrive, OWNER)
    assert again["again"], "whoever took it first may have sent it"
    result = json.dumps([{"letter_id": str(message["letter_id"]), "status": "sent"}])
    assert row(conn, "SELECT holdfast.settle_redrive_messages(%s, %s, %s) AS n", redrive, OWNER, result)["n"] == 1
    note(conn, {"key": "another id", "earlier": str(message["letter_id"])})
    back = row(conn, "SELECT * FROM holdfast.dead_letters WHERE gone_at IS NULL")
    assert (back["earlier_id"], back["returns"]) == (message["letter_id"], 1)
    assert claim(conn)[0]["same"] == 1


@pytest.mark.parametrize("captured", [False, True])
def test_a_job_that_comes_back_as_another_message_is_linked_by_its_id(conn: Session, captured: bool) -> None:
    keep = (
        "SELECT holdfast.capture_dead_letters('dlq', %s)"
        if captured
        else "SELECT holdfast.note_dead_letters('dlq', %s, true)"
    )

    def found(*messages: Row) -> None:
        given = [{"id": str(uuid4()), "fingerprint": "f", "kind": "ship", "body": "{}", **each} for each in messages]
        conn.execute(keep, (Jsonb(given),))
        advance(conn, seconds(60))

    note(conn, {"key": "m1", "job_id": "7", "kind": "ship"}, {"key": "n1", "job_id": "8", "kind": "ship"})
    if captured:
        conn.execute("UPDATE holdfast.dead_letters SET gone_at = holdfast.clock() WHERE job_id = '7'")
    advance(conn, seconds(60))
    found({"key": "m2", "job_id": "7"}, {"key": "n1", "job_id": "8"}, {"key": "n2", "job_id": "8"}, {"key": "x"})
    found({"key": "m2", "job_id": "7"}, {"key": "n1", "job_id": "8"}, {"key": "k", "job_id": "7", "kind": "bill"})
    lives = rows(
        conn,
        "SELECT d.key, d.returns, e.key AS was FROM holdfast.dead_letters d"
        " LEFT JOIN holdfast.dead_letters e ON e.id = d.earlier_id"
        " WHERE d.key IN ('m2', 'n2', 'k', 'x') ORDER BY d.key",
    )
    assert [(each["key"], each["was"], each["returns"]) for each in lives] == [
        ("k", None, 0), ("m2", "m1", 1), ("n2", None, 0), ("x", None, 0),
    ], "what lies beside it under its id is a double and no return"  # fmt: skip


def test_a_paused_one_is_left_alone_until_it_is_resumed(conn: Session) -> None:
    dead(conn, 1)
    redrive, _ = begin(conn, {})
    assert change(conn, redrive, "pause") == "paused"
    assert claim(conn) == []
    assert change(conn, redrive, "resume") == "running"
    assert claim(conn)[0]["canary_done"], "somebody has looked"
    assert change(conn, redrive, "finish") == "done"
    assert change(conn, redrive, "resume") == "done", "what has ended has ended"


def test_discarding_needs_a_reason_and_keeps_the_row(conn: Session) -> None:
    (id,) = dead(conn, 1)
    note(conn, {"key": "m"})
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="needs a reason"):
        conn.execute("SELECT holdfast.discard_dead_letters('{}', 'ada', ' ')")
    done = row(conn, "SELECT holdfast.discard_dead_letters('{}', 'ada', 'of last year') AS n")["n"]
    assert done == 2
    kept = rows(conn, "SELECT outcome, outcome_by, outcome_reason FROM holdfast.dead_letters")
    assert [tuple(each.values()) for each in kept] == [("discarded", "ada", "of last year")] * 2
    assert job(conn, id)["status"] == "dead"
    assert rows(conn, "SELECT * FROM holdfast.dead_letter_groups()") == [], "nobody need be told"
    note(conn, {"key": "m"})
    assert rows(conn, "SELECT * FROM holdfast.letter_groups()") == [], "wherever it still lies"


def test_what_is_being_sent_cannot_be_discarded(conn: Session) -> None:
    dead(conn, 1)
    begin(conn, {})
    assert row(conn, "SELECT holdfast.discard_dead_letters('{}', 'ada', 'no') AS n")["n"] == 0


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"kind": "report"}, 2), ({"cause": "ValueError"}, 2), ({"source": "sqs"}, 1), ({"queue": "dlq"}, 1),
        ({"newer": "1 minute"}, 3), ({"older": "1 minute"}, 0), ({"kind": "report", "queue": "dlq"}, 0),
        ({"ids": ["4711"]}, 1), ({"ids": []}, 0),
    ],
)  # fmt: skip
def test_all_of_a_filter_must_hold(conn: Session, wanted: Row, count: int) -> None:
    dead(conn, 2)
    note(conn, {"key": "m", "job_id": "4711"})
    assert (
        sum(each["letters"] for each in rows(conn, "SELECT * FROM holdfast.letter_groups(%s)", Jsonb(wanted))) == count
    )


def test_a_foreign_message_that_names_a_job_of_ours_shows_that_job_s_error(conn: Session) -> None:
    (id,) = dead(conn, 1)
    note(conn, {"key": "m", "job_id": str(id)}, {"key": "n", "job_id": "no uuid"})
    found = rows(conn, "SELECT * FROM holdfast.show_letter(%s)", str(id))
    assert {each["source"] for each in found} == {"job", "sqs"}
    assert {each["job_error"]["type"] for each in found} == {"ValueError"}
    assert row(conn, "SELECT * FROM holdfast.show_letter('no uu')")["job_error"] is None


def test_an_old_redrive_is_forgotten_and_what_is_still_there_is_not(conn: Session) -> None:
    note(conn, {"key": "m"}, {"key": "n"})
    (letter, _) = rows(conn, "SELECT id::text FROM holdfast.dead_letters")
    redrive, _ = begin(conn, {"ids": [letter["id"]]})
    change(conn, redrive, "cancel")
    conn.execute("SELECT holdfast.discard_dead_letters(%s, 'ada', 'old')", (Jsonb({"ids": [letter["id"]]}),))
    assert row(conn, "SELECT holdfast.prune_letters() AS n")["n"] == 0
    advance(conn, seconds(91 * 86400))
    assert row(conn, "SELECT holdfast.prune_letters() AS n")["n"] == 2, "a discarded letter, and a part of the redrive"
    assert row(conn, "SELECT holdfast.prune_letters() AS n")["n"] == 1, "the redrive itself"
    assert len(rows(conn, "SELECT FROM holdfast.dead_letters")) == 1
