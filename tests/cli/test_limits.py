"""`holdfast limits`: what an operator sees and does."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.command import Answer
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, advance, row


@pytest.fixture
def limits(database: str, conn: Session, tmp_path: Path):
    """The command over a ledger in which ann was refused twice and bob once."""
    for user, times in (("ann", 4), ("bob", 3)):
        for _ in range(times):
            conn.execute("SELECT holdfast.check_rate_limit(%s, 2, 3600, 1, 'api')", (f"user:{user}",))

    def run(*args: str) -> Answer:
        return holdfast("limits", *args, cwd=tmp_path, DATABASE_URL=database)

    return run


def allowed(conn: Session, user: str) -> bool:
    found: bool = row(conn, "SELECT allowed FROM holdfast.check_rate_limit(%s, 2, 3600, 1, 'api')", f"user:{user}")[
        "allowed"
    ]
    return found


def test_the_top_shows_hashes_and_show_tells_whose_they_are(limits) -> None:
    top = limits("top")
    lines = top.out.splitlines()
    assert [line.split()[-4] for line in lines[1:]] == ["2", "1"], top.out + top.err
    ann = lines[1].split()[1]
    shown = limits("show", "user:ann")
    assert f"user:ann is {ann} in the ledger" in shown.out
    assert json.loads(limits("show", "--hash", ann, "--json").out)["identities"][0]["refused"] == 2
    assert "user" not in top.out


def test_what_has_left_its_windows_is_not_told_as_in_them(limits, conn: Session) -> None:
    advance(conn, timedelta(days=40))
    for answer in (limits("top", "--json"), limits("show", "user:ann", "--json")):
        assert {each["admitted"] for each in json.loads(answer.out)["identities"]} == {0}


def test_a_reset_a_block_and_an_allowance_take_effect(limits, conn: Session) -> None:
    assert limits("reset", "user:ann").out == "forgotten: 1 count, within a second in all processes\n"
    assert allowed(conn, "ann")
    assert "blocked for 0:15:00" in limits("block", "user:ann", "--for", "15m", "--note", "scraper").out
    assert not allowed(conn, "ann")
    listed = limits("list").out
    assert "block" in listed
    assert "scraper" in listed
    assert limits("clear", "user:ann").code == 0
    assert limits("clear", "user:ann").code == 1
    assert "always admitted" in limits("allow", "user:bob").out
    assert {allowed(conn, "bob") for _ in range(5)} == {True}


def test_a_tier_is_changed_for_one_or_for_everybody(limits, conn: Session) -> None:
    assert limits("override", "api", "5/hour", "user:ann").code == 0
    assert [allowed(conn, "ann") for _ in range(4)] == [True, True, True, False]
    assert limits("override", "api", "3/hour").code == 0
    assert [allowed(conn, "bob") for _ in range(2)] == [True, False]
    rules = json.loads(limits("list", "--json").out)["rules"]
    assert [rule["limits"] for rule in rules] == [["3;w=3600"], ["5;w=3600"]]
    assert limits("clear", "--everybody", "--policy", "api").code == 0


def test_the_list_tells_how_the_table_is(limits, conn: Session) -> None:
    conn.execute("SELECT pg_stat_force_next_flush()")
    health = limits("list").out.splitlines()[-1]
    assert health.startswith("2 identities, ")
    assert health.endswith("0 limiting processes")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show"], "whose?"),
        (["block", ""], "KEY is empty"),
        (["reset", "user:ann", "--hash", "0" * 32], "whose?"),
        (["block", "user:ann", "--for", "soon"], "looks like 90"),
        (["show", "--hash", "ann"], "limits top"),
        (["override", "api", "many", "user:ann"], "100/minute"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(limits, args: list[str], words: str) -> None:
    answer = limits(*args)
    assert answer.code == 2
    assert words in " ".join(answer.err.replace("│", " ").split())
