"""`holdfast incidents`: what is open is listed, what is over is not."""

import json
from pathlib import Path
from typing import Any

from holdfast.core import telling
from tests.cli.command import Answer
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, advance, seconds


def incidents(database: str, folder: Path, *args: str) -> Answer:
    return holdfast("incidents", *args, cwd=folder, DATABASE_URL=database)


KINDS = (telling.BLIND, telling.COUNTED, telling.FAILING, "a kind of somebody's own")


def write(conn: Session, action: str, kind: str) -> str:
    change = {"id": f"0000000{KINDS.index(kind)}-0000-0000-0000-000000000000", "action": action, "kind": kind}
    content = {"title": f"[{kind}]", "lines": [["why", "it hangs"]], "command": "holdfast doctor"}
    change |= {"key": "orders-dlq", "title": f"[{kind}] of orders-dlq", "arrivals": "3"}
    conn.execute(
        "SELECT holdfast.record_incidents(%s::jsonb, '{log}')", (json.dumps([{**change, "content": content}]),)
    )
    return change["id"][:8]


def test_open_incidents_of_every_kind_are_listed_and_those_that_are_over_only_when_asked_for(
    database: str, conn: Session, tmp_path: Path
) -> None:
    assert incidents(database, tmp_path, "list").out == "no incident is open\n"
    for kind in KINDS:
        write(conn, "open", kind)
    write(conn, "resolve", telling.COUNTED)
    advance(conn, seconds(5400))
    out = incidents(database, tmp_path, "list").out
    assert f"[{telling.BLIND}] of orders-dlq" in out
    assert "1.5 h" in out
    listed: Any = json.loads(incidents(database, tmp_path, "list", "--json").out)
    assert {each["kind"] for each in listed["incidents"]} == {*KINDS} - {telling.COUNTED}
    assert "resolved" in incidents(database, tmp_path, "list", "--all").out
    assert "open, reopened" in incidents(database, tmp_path, "list", "--state", "opne").err


def test_one_is_shown_with_who_was_told_taken_on_and_silenced(database: str, conn: Session, tmp_path: Path) -> None:
    id = write(conn, "open", telling.BLIND)
    page = incidents(database, tmp_path, "show", id).out
    assert "it hangs" in page
    assert "waits: not tried yet" in page
    taken = incidents(database, tmp_path, "ack", id, "--by", "ada", "--note", "on it")
    assert (taken.code, "is acknowledged" in taken.out) == (0, True)
    page = incidents(database, tmp_path, "show", id).out
    assert "acknowledged by ada" in page
    assert "on it" in page
    assert "is silenced" in incidents(database, tmp_path, "silence", id, "--for", "2h", "--by", "bob").out
    assert "silenced by bob until" in incidents(database, tmp_path, "show", id).out
    assert "is open" in incidents(database, tmp_path, "ack", id, "--undo").out
    assert "is open" in incidents(database, tmp_path, "silence", id, "--undo").out
    write(conn, "resolve", telling.BLIND)
    over = incidents(database, tmp_path, "ack", id)
    assert (over.code, "is over already" in over.out) == (1, True)


def test_the_id_that_the_list_shows_is_taken(database: str, conn: Session, tmp_path: Path) -> None:
    id, title = "01a21413-c95b-7e68-8234-44e3989787d9", "orders-dlq cannot be looked at"
    change = {"id": id, "action": "open", "kind": telling.BLIND, "key": "orders-dlq", "title": title, "arrivals": 1}
    conn.execute("SELECT holdfast.record_incidents(%s::jsonb, '{log}')", (json.dumps([{**change, "content": {}}]),))
    shown = incidents(database, tmp_path, "list").out.splitlines()[1].split()[0]
    assert id in incidents(database, tmp_path, "show", shown).out
    assert "is acknowledged" in incidents(database, tmp_path, "ack", shown.upper()).out
    assert "is silenced" in incidents(database, tmp_path, "silence", shown, "--for", "2h").out


def test_what_cannot_be_meant_is_refused_with_the_way_out(database: str, conn: Session, tmp_path: Path) -> None:
    write(conn, "open", telling.BLIND)
    write(conn, "open", telling.COUNTED)
    assert "holdfast incidents list --all" in incidents(database, tmp_path, "show", "ffff").err
    assert "give more of it" in incidents(database, tmp_path, "ack", "0").err
    assert "--for 2h" in incidents(database, tmp_path, "silence", "00000000").err
