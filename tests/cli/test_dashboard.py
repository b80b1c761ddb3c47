"""`holdfast dashboard`, and keys with roles, as people and scripts use them."""

import json
from pathlib import Path
from typing import Any

from tests.cli.command import holdfast
from tests.support import Session, row


def test_a_link_is_printed_that_begins_a_session_of_the_role_asked_for(
    database: str, conn: Session, tmp_path: Path
) -> None:
    where: dict[str, Any] = {"cwd": tmp_path, "DATABASE_URL": database, "HOLDFAST_PORT": "8600"}
    made = holdfast("dashboard", "--role", "viewer", "--json", **where)
    assert made.code == 0
    link = json.loads(made.out)["url"]
    address, _, code = link.partition("?code=")
    assert address == "http://127.0.0.1:8600/dashboard/sign-in"
    kept = row(conn, "SELECT kind, role, secret_hash, ended_at FROM holdfast.sessions")
    assert (kept["kind"], kept["role"], kept["ended_at"]) == ("link", "viewer", None)
    assert code.partition(".")[2] not in kept["secret_hash"], "only a hash is kept"


def test_a_role_without_a_use_for_pages_gets_none_of_its_links(database: str, tmp_path: Path) -> None:
    refused = holdfast("dashboard", "--role", "submitter", cwd=tmp_path, DATABASE_URL=database)
    assert refused.code == 2
    assert "no use for the dashboard" in refused.err


def test_a_key_is_made_with_the_role_asked_for(database: str, conn: Session, tmp_path: Path) -> None:
    made = holdfast("keys", "create", "ci", "--role", "submitter", cwd=tmp_path, DATABASE_URL=database)
    assert made.code == 0
    assert row(conn, "SELECT role FROM holdfast.api_keys")["role"] == "submitter"
