"""`holdfast keys` as people and scripts use it."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.api_keys import parse_key
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, row


def test_a_key_is_made_listed_and_revoked(database: str, conn: Session, tmp_path: Path) -> None:
    where: dict[str, Any] = {"cwd": tmp_path, "DATABASE_URL": database}
    made = holdfast("keys", "create", "ci", "--expires", "30d", **where)
    assert made.code == 0
    token = made.out.strip()
    parsed = parse_key(token)
    assert parsed is not None
    id, secret = parsed
    assert made.out == f"{token}\n", "standard output holds the key and nothing else, for scripts"
    assert "shown once" in made.err
    assert secret not in made.err

    listed = holdfast("keys", "list", **where)
    assert id in listed.out
    assert "ci" in listed.out
    assert "never" in listed.out
    assert "valid, ends in 2" in listed.out
    assert secret not in listed.out

    revoked = holdfast("keys", "revoke", id, **where)
    assert (revoked.code, revoked.out) == (0, f"{id} (ci) opens nothing any more, within 10 seconds everywhere\n")
    assert "there is no key" in holdfast("keys", "list", **where).out
    assert "  revoked " in holdfast("keys", "list", "--all", **where).out
    assert row(conn, "SELECT revoked_at IS NOT NULL AS yes FROM holdfast.api_keys")["yes"]


def test_programs_get_json(database: str, tmp_path: Path) -> None:
    where: dict[str, Any] = {"cwd": tmp_path, "DATABASE_URL": database}
    made = json.loads(holdfast("keys", "create", "ci", "--json", **where).out)
    assert made["key"]["role"] == "admin"
    assert made["token"].startswith(f"hf_{made['key']['id']}_")
    (listed,) = json.loads(holdfast("keys", "list", "--json", **where).out)["keys"]
    assert listed["id"] == made["key"]["id"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("create", ""), "name is ''; it must have 1 to 100 printable characters"),
        (("create", "a\x1b[31m"), "printable characters"),
        (("create", "ci", "--expires", "soon"), "'soon' is not a duration; write for example 30d, 12h or 15min"),
        (("create", "ci", "--expires", "0d"), "'0d' is not a duration"),
    ],
)
def test_bad_input_is_refused_with_the_way_out(
    database: str, conn: Session, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    answer = holdfast("keys", *args, cwd=tmp_path, DATABASE_URL=database)
    assert answer.code == 2
    assert said in " ".join(answer.err.split())
    assert row(conn, "SELECT count(*) AS n FROM holdfast.api_keys")["n"] == 0


def test_revoking_what_is_not_there_says_so(database: str, tmp_path: Path) -> None:
    answer = holdfast("keys", "revoke", "nothing", cwd=tmp_path, DATABASE_URL=database)
    assert (answer.code, answer.out) == (1, "there is no key with the id nothing; see: holdfast keys list\n")


def test_a_thousand_and_first_key_is_refused(database: str, conn: Session, tmp_path: Path) -> None:
    conn.execute(
        "INSERT INTO holdfast.api_keys (id, name, secret_hash, created_at)"
        " SELECT 'key' || n, 'n', 'x', holdfast.clock() FROM generate_series(1, 1000) AS n"
    )
    answer = holdfast("keys", "create", "one more", cwd=tmp_path, DATABASE_URL=database)
    assert answer.code == 2
    assert "1,000 valid keys already" in answer.err
