"""docs/operations/runbook.md: every incident has its place there, and what it says to type exists."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from holdfast.cli.main import application
from holdfast.config import ALIASES, Settings
from holdfast.core import telling
from holdfast.core.health import Ledger, Limits, Process, Report
from holdfast.core.health_checks import judge

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "operations" / "runbook.md").read_text()
PLACES = re.findall(r'<a id="([\w-]+)"></a>', PAGE)
COMMAND = re.compile(r"(?:^|`|&& |\| )(?:\w+=\S+ )*holdfast ((?:[a-z-]+ ?)+[^`|\n#;&()]*)", re.MULTILINE)
#: Pages whose commands are looked at: all that people follow.
PAGES = sorted(
    page
    for page in [ROOT / "README.md", ROOT / "SECURITY.md", *DOCS.rglob("*.md")]
    if not page.is_relative_to(DOCS / "decisions") and page.name != "cli.md"
)


def test_every_kind_of_incident_has_a_place() -> None:
    assert set(telling.KINDS) <= set(PLACES)


def test_every_health_check_has_a_place() -> None:
    checks = {check.name for check in judge(Ledger(), Report(), Process(), Limits())}
    assert len(checks) > 8
    assert checks <= set(PLACES)


def test_each_place_is_there_once() -> None:
    assert len(PLACES) == len(set(PLACES))


def test_links_within_the_page_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= set(PLACES)


def commands_of(text: str) -> list[str]:
    return [found.strip() for found in COMMAND.findall(text)]


def complaint(words: list[str]) -> str | None:
    """What is wrong with a command as it stands: its name, or an option."""
    command = get_command(application())
    for word in words:
        if not hasattr(command, "commands"):
            break
        if word.startswith("-"):
            return None  # an option of the whole: --version
        if word not in command.commands:
            return f"no command {word}"
        command = command.commands[word]
    options = {name for each in command.params for name in [*each.opts, *each.secondary_opts]} | {"--help", "-h"}
    wrong = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
    return f"no option {wrong[0]}" if wrong else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_exist(page: Path) -> None:
    wrong = {
        command: why
        for command in commands_of(page.read_text())
        if (why := complaint(command.replace('"', "").split()))
    }
    assert not wrong


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert commands_of("`holdfast jobs lsit --all`") == ["jobs lsit --all"]
    assert complaint(["jobs", "lsit"]) == "no command lsit"
    assert complaint(["jobs", "list", "--everything"]) == "no option --everything"
    assert complaint(["jobs", "list", "--status", "dead"]) is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_settings_of_a_page_exist(page: Path) -> None:
    named = set(re.findall(r"\bHOLDFAST_([A-Z][A-Z_]+[A-Z])\b", page.read_text()))
    assert {name.lower() for name in named} <= {*Settings.model_fields, *ALIASES.values()}
