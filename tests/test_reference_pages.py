"""docs/reference: commands, settings, events, functions of SQL and the HTTP API, written from what they describe."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.main import COMMANDS
from holdfast.config import PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"


def headings(page: str) -> set[str]:
    return set(re.findall(r"^## (.+)$", (REFERENCE / page).read_text(), re.MULTILINE))


def test_the_pages_are_what_their_script_writes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "write_reference.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_every_command_and_every_setting_has_its_place() -> None:
    assert {f"holdfast {name}" for name in COMMANDS} <= headings("cli.md")
    assert headings("settings.md") == {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def test_every_function_has_its_place() -> None:
    files = {path.stem for path in (ROOT / "src" / "holdfast" / "postgres" / "functions").glob("*.sql")}
    defining = {
        name
        for name in files
        if f"FUNCTION holdfast.{name}("
        in (REFERENCE.parents[1] / f"src/holdfast/postgres/functions/{name}.sql").read_text()
    }
    assert len(defining) > 60
    assert defining <= headings("sql.md")


@pytest.mark.parametrize("operation", ["POST /api/jobs", "GET /api/jobs", "GET /api/health"])
def test_the_operations_of_the_api_are_there(operation: str) -> None:
    assert operation in headings("http.md")
