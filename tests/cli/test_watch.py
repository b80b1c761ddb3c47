"""`holdfast watch`: what it proposes can be used as it is, and --dry-run changes nothing."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.command import Answer
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, rows

TABLES = (
    "SET search_path = public",
    "CREATE TYPE job_state AS ENUM ('pending', 'processing', 'done', 'failed')",
    "CREATE TABLE exports (id bigint PRIMARY KEY, state job_state, heartbeat_at timestamptz, started_at timestamptz)",
    "CREATE INDEX ON exports (state)",
    "CREATE TABLE users (id int PRIMARY KEY, status text, updated_at timestamptz)",
    "INSERT INTO users VALUES (1, 'active', now())",
    "CREATE TABLE tasks (id int PRIMARY KEY, status text, updated_at timestamp)",
    "INSERT INTO tasks VALUES (1, 'running', now()), (2, 'new', now())",
    "INSERT INTO exports VALUES (7, 'processing', now() - interval '1 hour'), (8, 'processing', now())",
)


@pytest.fixture
def folder(conn: Session, tmp_path: Path) -> Path:
    for text in TABLES:
        conn.execute(text.encode())
    return tmp_path


def watch(database: str, folder: Path, *args: str) -> Answer:
    return holdfast("watch", *args, cwd=folder, DATABASE_URL=database)


def test_statuses_of_camel_case_and_of_domains_are_discovered(database: str, conn: Session, tmp_path: Path) -> None:
    conn.execute("SET search_path = public")
    conn.execute("CREATE DOMAIN phase AS text CHECK (VALUE IN ('queued', 'running', 'failed'))")
    conn.execute('CREATE TABLE runs (id int PRIMARY KEY, "runStatus" phase, "lastSeenAt" timestamp)')
    (entry,) = tomllib.loads(watch(database, tmp_path, "discover").out)["watch"]
    assert (entry["status"], entry["running"], entry["heartbeat"]) == ("runStatus", ["running"], "lastSeenAt")


def test_what_discover_proposes_is_checked_tried_and_carried_out(database: str, conn: Session, folder: Path) -> None:
    proposed = watch(database, folder, "discover").out
    entries = tomllib.loads(proposed)["watch"]
    assert [each["table"] for each in entries] == ["public.exports", "public.tasks"]
    assert entries[0] == {
        "table": "public.exports", "id": "id", "status": "state", "heartbeat": "heartbeat_at", "since": "started_at",
        "running": ["processing"], "queued": "pending", "failed": "failed", "stale_after": 600, "action": "alert",
    }  # fmt: skip
    assert "# ? do workers write updated_at while they run?" in proposed
    assert watch(database, folder, "list").out.startswith("no table was looked at yet")

    (folder / "holdfast.toml").write_text(proposed.replace('action = "alert"', 'action = "mark"', 1).split("\n\n")[0])
    checked = watch(database, folder, "check")
    assert (checked.code, checked.out) == (0, "ok    public.exports\n")
    tried = watch(database, folder, "sweep", "--dry-run")
    assert tried.code == 0, tried.err
    assert "public.exports: 1 stuck row\n  7 (processing, silent since " in tried.out
    assert tried.out.endswith("would become pending\n")
    assert {each["state"] for each in rows(conn, "SELECT state::text FROM exports")} == {"processing"}

    done = json.loads(watch(database, folder, "sweep", "--json").out)
    assert [(each["id"], each["to"]) for each in done["watches"][0]["rows"]] == [("7", "pending")]
    assert rows(conn, "SELECT id, state::text FROM exports ORDER BY id") == [
        {"id": 7, "state": "pending"}, {"id": 8, "state": "processing"},
    ]  # fmt: skip
    listed = json.loads(watch(database, folder, "list", "--json").out)["watches"]
    assert [(each["table"], each["rescued"], each["stale"]) for each in listed] == [("public.exports", 1, 0)]
    assert "public.exports" in watch(database, folder, "list").out
    assert "1 row of public.exports got stuck" in holdfast(
        "incidents", "list", cwd=folder, DATABASE_URL=database
    ).out  # fmt: skip


def test_what_does_not_fit_is_told_and_ends_with_an_error(database: str, folder: Path) -> None:
    assert "holdfast.toml has no [[watch]]" in watch(database, folder, "check").err
    (folder / "holdfast.toml").write_text(
        '[[watch]]\ntable = "exports"\nstatus = "state"\nheartbeat = "beat"\nrunning = "processing"\n'
    )
    checked = watch(database, folder, "check")
    assert checked.code == 1
    assert "public.exports has no column beat (heartbeat)" in checked.out
    swept = watch(database, folder, "sweep")
    assert swept.code == 1
    assert "exports: cannot be looked at: public.exports has no column beat" in swept.out
    assert "no [[watch]] is called 'x'; there is exports" in watch(database, folder, "check", "x").err


def test_a_table_that_was_taken_out_is_forgotten_with_what_is_open_about_it(
    database: str, conn: Session, folder: Path
) -> None:
    entry = '[[watch]]\ntable = "exports"\nstatus = "state"\nheartbeat = "heartbeat_at"\nrunning = "processing"\n'
    (folder / "holdfast.toml").write_text(entry)
    assert watch(database, folder, "sweep").code == 0
    assert [each["status"] for each in rows(conn, "SELECT status FROM holdfast.incidents")] == ["open"]
    refused = watch(database, folder, "forget", "exports")
    assert (refused.code, "is still watched; take its [[watch]] out" in refused.err) == (2, True)

    (folder / "holdfast.toml").unlink()
    assert watch(database, folder, "forget", "exports").out == "exports is forgotten\n"
    assert [each["status"] for each in rows(conn, "SELECT status FROM holdfast.incidents")] == ["resolved"]
    assert rows(conn, "SELECT name FROM holdfast.watches") == []
    assert "no table is watched as 'exports'" in watch(database, folder, "forget", "exports").err


def test_a_dry_run_says_that_there_may_be_more_than_it_looked_at(database: str, conn: Session, folder: Path) -> None:
    entry = '[[watch]]\ntable = "exports"\nstatus = "state"\nheartbeat = "heartbeat_at"\nrunning = "processing"\n'
    (folder / "holdfast.toml").write_text(entry)
    conn.execute(
        "INSERT INTO exports SELECT n, 'processing', now() - interval '1 day' FROM generate_series(10, 1100) n"
    )
    assert "exports: 1,000 stuck rows or more, left alone\n  " in watch(database, folder, "sweep", "--dry-run").out
