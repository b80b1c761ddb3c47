"""The pages about other programs' jobs: their entries can be read, their commands are taken, what they name exists."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from holdfast.config import Settings
from holdfast.core.watch import Watch, parse_watch
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.watches import examine_watch
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session

HOW_TO = Path(__file__).resolve().parent.parent / "docs" / "how-to"
NAMES = ("existing-table", "celery", "procrastinate", "pgqueuer", "nextjs")
PAGES = {name: (HOW_TO / f"{name}.md").read_text() for name in NAMES}


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[name], re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", NAMES[:4])
def test_each_entry_can_be_read(name: str) -> None:
    (entry,) = [each for block in blocks(name, "toml") for each in tomllib.loads(block)["watch"]]
    assert parse_watch(entry).table


@pytest.mark.parametrize("name", NAMES)
def test_each_command_is_taken_and_each_setting_is_one(name: str, tmp_path: Path) -> None:
    commands = {
        line.partition("#")[0].strip()
        for block in blocks(name, "sh")
        for line in block.splitlines()
        if line.startswith("holdfast ")
    }
    for command in commands:
        answer = holdfast(*command.split()[1:], "--help", cwd=tmp_path)
        assert answer.code == 0, f"{command}: {answer.err}"
    named = {found.lower() for found in re.findall(r"\bHOLDFAST_([A-Z_]+)", PAGES[name])}
    assert named <= set(Settings.model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_each_link_leads_to_a_file(name: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[name]):
        assert link.startswith("https://") or (HOW_TO / link).exists(), link


def test_the_table_of_settings_is_whole() -> None:
    rows = re.findall(r"^\| (`[^|]+`) \| ", PAGES["existing-table"], re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == {each.name for each in fields(Watch)}


async def test_the_statement_for_an_index_is_what_check_prints(database: str, conn: Session) -> None:
    conn.execute(
        b"CREATE TABLE public.exports (id bigint PRIMARY KEY, status text, heartbeat_at timestamptz, tenant text)"
    )
    (block,) = blocks("existing-table", "toml")
    ledger = AsyncLedger(database)
    try:
        ((problem,),) = [await ledger.call(examine_watch(parse_watch(tomllib.loads(block)["watch"][0])))]
    finally:
        await ledger.close()
    assert blocks("existing-table", "sql")[0].strip() == problem.advice


@pytest.mark.parametrize("name", ["existing-table", "celery", "procrastinate", "pgqueuer"])
def test_each_page_says_which_promises_do_not_hold(name: str) -> None:
    text = " ".join(PAGES[name].split())
    assert re.search(
        r"P2.{0,120}P4.{0,60}do not hold|P2 one holder.*does not hold.*P4 no false rescue.*does not hold", text
    )
