"""The commands, settings and the statements of docs/how-to/dead-letters.md exist as they stand there."""

import re
from pathlib import Path

import pytest

from holdfast.config import Settings
from tests.cli.command import holdfast_here as holdfast

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "how-to" / "dead-letters.md").read_text()
COMMANDS = re.findall(r"^(?:\w+=\w+ )?holdfast (.+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_taken(command: str, tmp_path: Path) -> None:
    answer = holdfast(*command.split(), "--help", cwd=tmp_path)
    assert answer.code == 0, answer.err


def test_each_setting_is_one() -> None:
    named = set(re.findall(r"HOLDFAST_([A-Z_]+)", PAGE))
    assert {name.lower() for name in named} <= set(Settings.model_fields)
    assert "DLQ_URLS" in named
