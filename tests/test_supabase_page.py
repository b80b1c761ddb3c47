"""The commands, settings and names of docs/how-to/supabase.md exist as they stand there."""

import re
from pathlib import Path

import pytest

from holdfast.config import ALIASES, Settings
from holdfast.postgres.migrate import load
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, row

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "how-to" / "supabase.md").read_text()
COMMANDS = sorted(set(re.findall(r"^holdfast ([^|\n]+)", PAGE, re.MULTILINE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_taken(command: str, tmp_path: Path) -> None:
    answer = holdfast(*command.split(), "--help", cwd=tmp_path)
    assert answer.code == 0, answer.err


def test_each_setting_is_one() -> None:
    named = set(re.findall(r"\b(SUPABASE_\w+|DATABASE_URL)\b", PAGE))
    assert named <= set(ALIASES)
    assert {ALIASES[name] for name in named} <= set(Settings.model_fields)


def test_the_count_of_migrations_is_that_of_the_files() -> None:
    assert f"answers: 0 of {len(load())} migrations applied" in PAGE


def test_the_statement_for_owners_runs(conn: Session) -> None:
    assert "SELECT holdfast.secure_schema()" in PAGE
    row(conn, "SELECT holdfast.secure_schema()")
