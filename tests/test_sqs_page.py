"""The commands, settings and permissions of docs/how-to/sqs.md are those of the code."""

import re
from pathlib import Path

import pytest

from holdfast.config import Settings
from holdfast.sqs.policy import ROLES
from tests.cli.command import holdfast_here as holdfast

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "how-to" / "sqs.md").read_text()
COMMANDS = sorted({line.split("#")[0].strip() for line in re.findall(r"^holdfast (.+)$", PAGE, re.MULTILINE)})


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_taken(command: str, tmp_path: Path) -> None:
    answer = holdfast(*command.split(), "--help", cwd=tmp_path)
    assert answer.code == 0, answer.err


def test_each_setting_is_one() -> None:
    named = set(re.findall(r"HOLDFAST_([A-Z_]+)", PAGE))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_the_table_of_permissions_is_that_of_the_policies() -> None:
    rows = re.findall(r"^\| (API|worker|monitor|redriver)[^|]*\|([^|]*)\|([^|]*)\|$", PAGE, re.MULTILINE)
    told = {role.lower(): [set(re.findall(r"sqs:\w+", cell)) for cell in cells] for role, *cells in rows}
    wanted = {
        role: [{action for grant in grants if grant.of_dead_letters is dead for action in grant.actions}
               for dead in (False, True)]
        for role, grants in ROLES.items()
    }  # fmt: skip
    assert told == wanted
