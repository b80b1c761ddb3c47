"""The commands, settings and the statements of docs/how-to/dead-letters.md exist as they stand there."""

import re
from pathlib import Path
from uuid import uuid4

import pytest

from holdfast.config import Settings
from tests.cli.command import holdfast
from tests.support import Session, rows

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "how-to" / "dead-letters.md").read_text()
COMMANDS = re.findall(r"^(?:\w+=\w+ )?holdfast (.+)$", PAGE, re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_taken(command: str, tmp_path: Path) -> None:
    answer = holdfast(*command.split(), "--help", cwd=tmp_path)
    assert answer.code == 0, answer.err


def test_each_setting_is_one() -> None:
    named = set(re.findall(r"HOLDFAST_([A-Z_]+)", PAGE))
    assert {name.lower() for name in named} <= set(Settings.model_fields)
    assert "DLQ_URLS" in named


def test_the_statements_run(conn: Session) -> None:
    listing, settling = blocks("sql")
    assert rows(conn, listing) == []
    assert conn.execute(settling.replace("'...'", f"'{uuid4()}'")).rowcount == 0
