"""`holdfast dlq`: look first, send again what was looked at, and nothing by accident."""

import json
from pathlib import Path
from typing import Any

from tests.cli.command import Answer, eventually, running
from tests.cli.command import holdfast_here as holdfast
from tests.postgres.test_redrives import dead, note
from tests.support import Session, claim_one, clock, job, register, row, rows, settle


def dlq(database: str, folder: Path, *args: str) -> Answer:
    return holdfast("dlq", *args, cwd=folder, DATABASE_URL=database)


def printed(answer: Answer) -> Any:
    assert answer.err == ""
    return json.loads(answer.out)


def test_groups_and_letters_are_listed_and_one_is_shown_with_its_true_error(
    database: str, conn: Session, tmp_path: Path
) -> None:
    assert dlq(database, tmp_path, "groups").out == "there are no dead letters\n"
    ids = dead(conn, 3)
    note(conn, {"key": "m", "body": "a \x1b[31m body", "kind": "ship"})
    out = dlq(database, tmp_path, "groups").out
    assert "3  report  ValueError  default (jobs)" in out
    assert "1  ship" in out
    assert [each["letters"] for each in printed(dlq(database, tmp_path, "groups", "--json"))["groups"]] == [3, 1]
    assert dlq(database, tmp_path, "list", "--kind", "ship").out.count("ship") == 1
    assert len(printed(dlq(database, tmp_path, "list", "--source", "job", "--json"))["letters"]) == 3
    page = dlq(database, tmp_path, "show", str(ids[0])).out
    assert "ValueError: secret=hunter2" in page, "here, and in no alert"
    message = row(conn, "SELECT id::text FROM holdfast.dead_letters WHERE key = 'm'")["id"]
    assert "\x1b" not in dlq(database, tmp_path, "show", message[:8]).out
    assert "no dead letter" in dlq(database, tmp_path, "show", "ffff").err
    note(conn, *({"key": f"n{id}", "job_id": id, "body": f"the body of {id}"} for id in ("167", "1670", "B-1", "b-1")))
    for id in ("167", "B-1"):
        assert f"the body of {id}\n" in dlq(database, tmp_path, "show", id).out, "what an alert names can be shown"
    assert "give more of it" in dlq(database, tmp_path, "show", "16").err


def test_nothing_is_sent_unless_it_was_said_what_and_that_it_is_meant(
    database: str, conn: Session, tmp_path: Path
) -> None:
    dead(conn, 2)
    assert "or --all of them" in dlq(database, tmp_path, "redrive").err
    assert "give either it or a choice" in dlq(database, tmp_path, "redrive", "--all", "--kind", "x").err
    assert "this would redrive 2 letters; add --yes" in dlq(database, tmp_path, "redrive", "--all").err
    assert "2 letters to redrive" in dlq(database, tmp_path, "redrive", "--all", "--dry-run").out
    assert printed(dlq(database, tmp_path, "redrive", "--all", "--dry-run", "--json"))["matching"] == 2
    assert dlq(database, tmp_path, "redrive", "--kind", "other", "--yes").out == "there are no such dead letters\n"
    assert "it is job" in dlq(database, tmp_path, "list", "--source", "jobs").err
    assert rows(conn, "SELECT FROM holdfast.redrives") == []


def test_a_group_is_redriven_with_a_canary_paused_for_somebody_to_look_and_gone_on_with(
    database: str, conn: Session, tmp_path: Path
) -> None:
    dead(conn, 5)
    dead(conn, 1, fingerprint="KeyError:1")
    first = dlq(
        database, tmp_path, "redrive", "--group", "ValueError:1", "--canary", "2", "--canary-wait", "0s", "--yes"
    )
    assert first.code == 1
    assert "paused: of the first 2, 0 succeeded" in first.out
    id = first.out.partition("holdfast dlq resume ")[2].strip()
    worker = register(conn)
    for _ in range(2):
        settle(conn, worker, claim_one(conn, worker), "complete")
    left = dlq(database, tmp_path, "resume", id, "--no-wait")
    assert (left.code, left.err) == (0, "")
    assert "running" in dlq(database, tmp_path, "redrives", id).out
    assert f"redrive {id} is cancelled" in dlq(database, tmp_path, "cancel", id).out
    (found,) = printed(dlq(database, tmp_path, "redrives", id, "--json"))["redrives"]
    assert (found["succeeded"], found["remaining"], found["total"]) == (2, 3, 5)
    assert len(rows(conn, "SELECT FROM holdfast.dead_letters WHERE gone_at IS NULL")) == 4


def test_jobs_are_left_to_the_monitors_with_no_wait(database: str, conn: Session, tmp_path: Path) -> None:
    (id,) = dead(conn, 1)
    begun = printed(dlq(database, tmp_path, "redrive", str(id), "--yes", "--no-wait", "--json", "--rate", "5"))
    assert begun["total"] == 1
    assert job(conn, id)["status"] == "dead", "nobody works at it yet"
    assert row(conn, "SELECT rate, requested_by <> '' AS by FROM holdfast.redrives") == {"rate": 5.0, "by": True}


def test_discarding_says_why_and_keeps_them(database: str, conn: Session, tmp_path: Path) -> None:
    dead(conn, 2)
    assert "--reason" in dlq(database, tmp_path, "discard", "--all").err
    assert "say why" in dlq(database, tmp_path, "discard", "--all", "--reason", " ").err
    done = dlq(database, tmp_path, "discard", "--all", "--reason", "of last year", "--by", "ada", "--yes")
    assert done.out.endswith("discarded 2 letters\n")
    assert dlq(database, tmp_path, "list").out == "there are no such dead letters\n"
    assert "discarded" in dlq(database, tmp_path, "list", "--gone").out
    letter = row(conn, "SELECT id::text FROM holdfast.dead_letters LIMIT 1")["id"]
    assert "discarded by ada: of last year" in dlq(database, tmp_path, "show", letter).out


def test_the_queues_that_are_looked_at_are_listed_with_the_time_to_loss(
    database: str, conn: Session, tmp_path: Path
) -> None:
    assert "HOLDFAST_DLQ_URLS" in dlq(database, tmp_path, "queues").out
    note(conn, {"key": "m", "sent_at": str(clock(conn))})
    conn.execute("SELECT holdfast.begin_looks('{dlq,far-dlq}', '5 min')")
    conn.execute("SELECT holdfast.end_look('dlq', '{\"messages\": 1, \"retention\": 7200}')")
    conn.execute("SELECT holdfast.end_look('far-dlq', '{\"error\": \"it hangs\"}')")
    out = dlq(database, tmp_path, "queues").out
    assert "dlq      observe  1         just now   in 1" in out
    assert "blind for 0 s: it hangs" in out
    assert printed(dlq(database, tmp_path, "queues", "--json"))["queues"][0]["messages"] == 1


def test_watch_prints_each_letter_that_is_found_once_and_none_that_was_there_before(
    database: str, conn: Session, tmp_path: Path
) -> None:
    def fill(key: str, letters: int, age: str) -> None:
        conn.execute(
            "INSERT INTO holdfast.dead_letters (id, source, queue, key, kind, fingerprint, first_seen_at, last_seen_at)"
            " SELECT gen_random_uuid(), 'job', 'default', %s || n, %s, 'f', t.at, t.at"
            " FROM generate_series(1, %s) n, (SELECT holdfast.clock() - %s::interval AS at) t",
            (key, key, letters, age),
        )

    fill("before", 1500, "1 hour")
    with running("dlq", "watch", "--every", "0.2s", cwd=tmp_path, DATABASE_URL=database) as watch:
        watch.says("1,500 dead letters are there")
        conn.execute("DELETE FROM holdfast.dead_letters WHERE key < 'before7'")
        fill("after", 1200, "0")
        eventually(lambda: watch.text.count("after") >= 1200, watch.explain)
        fill("last", 1, "0")
        watch.says("last")
    assert (watch.text.count("after"), watch.text.count("before")) == (1200, 0)
