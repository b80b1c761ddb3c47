"""Every command with words that nobody should type, and every setting with values that it cannot have: an exit code of
ours and a line that says why; never a traceback, never a job lost.

Seeded: `HOLDFAST_FUZZ_SEED` runs one again.
"""

import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from typer.main import get_command

from holdfast import ConfigurationError, Settings
from holdfast.cli.main import application
from holdfast.config import load_settings
from tests.cli.command import holdfast_here
from tests.support import Session, enqueue, rows

#: They run until they are stopped, or open a terminal's screen.
ENDLESS = {"up", "worker", "api", "monitor", "local-sqs", "demo", "doctor", "verify", "probe", "dashboard"}
LEFT_OUT = {"dlq watch", "watch sweep", "migrate up", "migrate paste"}
WORDS = [
    "", " ", "-", "--", "--json", "-1", "0", "1", "99999999999999999999", "1e400", "nan", "default", "report", "dead",
    "running", "all", "mail", "x" * 300, "ünïcode", "'; DROP TABLE holdfast.jobs; --", "%s%n", "../../etc/passwd",
    "5m", "-5m", "1 week", "2026-11-25", "0000000-0000-0000-0000-000000000000",
    "01a2132f-4e52-7c37-9103-4cbca8cea006", "[]", "{", "a=b", "100/minute", "0/minute", "1/-1", "default=", "=", ",",
    "a,b,,c", "*", "http://127.0.0.1:1/000000000000/nowhere", "💥",
]  # fmt: skip
SAID = {0, 1, 2, 3, 4, 130}


@dataclass(frozen=True)
class Command:
    """One command that ends by itself, and the options that it has."""

    words: tuple[str, ...]
    options: tuple[str, ...]
    arguments: int


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[Command]:
    if hasattr(group, "commands"):
        for name, inner in group.commands.items():
            if name not in ENDLESS and " ".join((*before, name)) not in LEFT_OUT:
                yield from commands(inner, (*before, name))
        return
    options = [each for each in group.params if each.param_type_name == "option"]
    names = [name for option in options for name in option.opts if name not in ("--database-url", "--data-dir")]
    yield Command(before, tuple(names), len(group.params) - len(options))


def typed(command: Command, rng: random.Random) -> list[str]:
    """A line of it: some options, most with a value, and about as many arguments as it has."""
    line = []
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3]) if command.options else 0):
        line.append(rng.choice(command.options))
        if rng.random() < 0.6:
            line.append(rng.choice(WORDS))
    for _ in range(max(0, command.arguments + rng.choice([-1, 0, 0, 0, 1]))):
        line.insert(rng.randint(0, len(line)), rng.choice(WORDS))
    return [*command.words, *(word for word in line if "\0" not in word)]


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("HOLDFAST_FUZZ_SEED", secrets.randbelow(10**6)))
    print(f"HOLDFAST_FUZZ_SEED={seed}")
    return random.Random(seed)


def type_all(rng: random.Random, database: str, folder: Path, cases: int) -> None:
    found = list(commands(get_command(application())))
    assert len(found) > 35
    for _ in range(cases):
        line = typed(rng.choice(found), rng)
        answer = holdfast_here(*line, cwd=folder, DATABASE_URL=database)
        assert answer.code in SAID, (line, answer)
        assert "Traceback" not in answer.err, (line, answer.err)
        assert answer.code == 0 or answer.err.strip() or answer.out.strip(), f"{line} says nothing"


@pytest.fixture
def kept(conn: Session) -> Iterator[None]:
    """Jobs that are there before, and must be after."""
    ids = {enqueue(conn) for _ in range(5)}
    yield
    assert ids <= {row["id"] for row in rows(conn, "SELECT id FROM holdfast.jobs")}


def test_what_nobody_should_type_is_refused_in_words(
    rng: random.Random, kept: None, database: str, tmp_path: Path
) -> None:
    type_all(rng, database, tmp_path, 40)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_thousands_of_bad_lines_are_refused_in_words(
    rng: random.Random, kept: None, database: str, tmp_path: Path
) -> None:
    type_all(rng, database, tmp_path, 3_000)


@pytest.mark.parametrize("cases", [60, pytest.param(10_000, marks=pytest.mark.full)])
def test_a_setting_is_taken_or_refused_by_its_name(rng: random.Random, cases: int) -> None:
    names = list(Settings.model_fields)
    for _ in range(cases):
        given = {rng.choice(names): rng.choice(WORDS) for _ in range(rng.choice([1, 1, 2]))}
        environment = {f"HOLDFAST_{name.upper()}": value for name, value in given.items()}
        try:
            with mock.patch.dict(os.environ, environment, clear=True):
                load_settings()
        except ConfigurationError as error:
            said = str(error)
        else:
            continue
        assert any(name.upper() in said or name in said for name in given), (given, said)
