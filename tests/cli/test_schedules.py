"""`holdfast schedules`: what ticks, what does not, and why."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Answer
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, advance, row, seconds


def schedules(database: str, folder: Path, *args: str) -> Answer:
    return holdfast("schedules", *args, cwd=folder, DATABASE_URL=database)


def declare(conn: Session, name: str, cron: str = "0 * * * *") -> None:
    conn.execute(
        "SELECT holdfast.declare_schedules(jsonb_build_array(jsonb_build_object('name', %s::text, 'cron', %s::text,"
        " 'time_zone', 'Europe/Berlin', 'queue', 'q', 'kind', 'report', 'args', '{}'::jsonb,"
        " 'first_at', holdfast.clock() + interval '30 minutes')))",
        (name, cron),
    )


def line(answer: Answer, name: str) -> str:
    (found,) = [each for each in answer.out.splitlines() if each.startswith(name)]
    return " ".join(found.split())


def test_schedules_are_listed_with_their_next_tick(database: str, conn: Session, tmp_path: Path) -> None:
    assert schedules(database, tmp_path, "list").out.startswith("no schedules; ")
    declare(conn, "nightly")
    conn.execute(
        "UPDATE holdfast.schedules SET last_at = holdfast.clock() - interval '2 h', last_result = 'overlapped'"
    )
    declare(conn, "hourly")
    out = schedules(database, tmp_path, "list")
    assert line(out, "hourly") == "hourly 0 * * * * Europe/Berlin report never in 29 min"
    assert "2 h ago: the job before was not done in 29 min" in line(out, "nightly")
    listed: Any = json.loads(schedules(database, tmp_path, "list", "--json").out)
    assert (listed["schema"], [each["name"] for each in listed["schedules"]]) == (1, ["hourly", "nightly"])


def test_one_that_nobody_declares_any_more_is_said_not_to_tick(database: str, conn: Session, tmp_path: Path) -> None:
    declare(conn, "old")
    advance(conn, seconds(7200))
    assert "does not tick: no worker has declared it since 2 h ago" in line(
        schedules(database, tmp_path, "list"), "old"
    )
    assert schedules(database, tmp_path, "remove", "old").out == "old  removed\n"
    assert schedules(database, tmp_path, "remove", "old").code == 1


def test_a_resumed_schedule_goes_on_with_its_next_tick(database: str, conn: Session, tmp_path: Path) -> None:
    declare(conn, "hourly")
    assert schedules(database, tmp_path, "pause", "hourly").out == "hourly  paused\n"
    assert line(schedules(database, tmp_path, "list"), "hourly").endswith("paused")
    advance(conn, seconds(3 * 3600))
    assert json.loads(schedules(database, tmp_path, "resume", "hourly", "--json").out)["done"] == "resumed"
    found = row(conn, "SELECT next_at > holdfast.clock() AS later, paused FROM holdfast.schedules")
    assert found == {"later": True, "paused": False}


@pytest.mark.parametrize("command", ["pause", "resume", "remove"])
def test_a_name_that_is_not_there_is_told(command: str, database: str, tmp_path: Path) -> None:
    answer = schedules(database, tmp_path, command, "nightly")
    assert (answer.code, answer.err) == (1, "error: there is no schedule 'nightly'; see: holdfast schedules list\n")
