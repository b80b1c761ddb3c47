"""`holdfast workers list`, as a user runs it."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from psycopg.conninfo import make_conninfo

from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, advance, claim_one, enqueue, mark_gone, register


def test_live_workers_are_listed_with_what_they_hold_and_gone_ones_on_demand(
    database: str, connect: Callable[[], Session], tmp_path: Path
) -> None:
    conn = connect()
    live, gone = register(conn, slots=4, host="alpha"), register(conn, host="beta")
    enqueue(conn)
    claim_one(conn, live)
    mark_gone(conn, gone)
    shown = holdfast("workers", "list", cwd=tmp_path, DATABASE_URL=database).out
    assert "alpha" in shown
    assert "1/4" in shown
    assert "beta" not in shown
    found = json.loads(holdfast("workers", "list", "--gone", "--json", cwd=tmp_path, DATABASE_URL=database).out)[
        "workers"
    ]
    assert [(row["id"], row["gone_reason"]) for row in found] == [(str(live), None), (str(gone), "crashed")]


def test_a_worker_that_is_silent_beyond_its_limit_is_shown_as_such(
    database: str, connect: Callable[[], Session], tmp_path: Path
) -> None:
    conn = connect()
    register(conn)
    advance(conn, timedelta(seconds=30))
    assert "about to be declared gone" in holdfast("workers", "list", cwd=tmp_path, DATABASE_URL=database).out


def test_without_a_worker_the_way_to_start_one_is_told(database: str, tmp_path: Path) -> None:
    assert "holdfast worker APP" in holdfast("workers", "list", cwd=tmp_path, DATABASE_URL=database).out


def test_a_database_that_does_not_exist_is_a_wrong_setting_not_an_outage(database: str, tmp_path: Path) -> None:
    answer = holdfast("workers", "list", cwd=tmp_path, DATABASE_URL=make_conninfo(database, dbname="nowhere"))
    assert answer.code == 2
    assert 'database "nowhere" does not exist' in answer.err
    assert "check DATABASE_URL" in answer.err
