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


def write(conn: Session, action: str, kind: str) -> None:
    change = {"id": f"00000000-0000-0000-0000-{telling.KINDS.index(kind):012}", "action": action, "kind": kind}
    change |= {"key": "orders-dlq", "title": f"[{kind}] of orders-dlq", "arrivals": "3", "content": ""}
    conn.execute("SELECT holdfast.record_incidents(%s::jsonb, '{log}')", (json.dumps([change]),))


def test_open_incidents_of_every_kind_are_listed_and_those_that_are_over_are_not(
    database: str, conn: Session, tmp_path: Path
) -> None:
    assert incidents(database, tmp_path, "list").out == "no incident is open\n"
    others = [kind for kind in telling.KINDS if kind != telling.LETTERS]
    for kind in others:
        write(conn, "open", kind)
    write(conn, "resolve", telling.COUNTED)
    advance(conn, seconds(5400))
    out = incidents(database, tmp_path, "list").out
    assert f"[{telling.BLIND}] of orders-dlq" in out
    assert "1.5 h" in out
    listed: Any = json.loads(incidents(database, tmp_path, "list", "--json").out)
    assert {each["kind"] for each in listed["incidents"]} == {*others} - {telling.COUNTED}
