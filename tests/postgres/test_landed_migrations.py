"""A migration file that has landed is never edited: the build script, in a copy of this project that is released."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = Path("src/holdfast/postgres")


@pytest.fixture
def released(tmp_path: Path) -> Path:
    for folder in ("migrations", "functions", "sql"):
        shutil.copytree(ROOT / POSTGRES / folder, tmp_path / POSTGRES / folder)
    for file in ("scripts/build_migrations.py", "tests/postgres/migrations.json", "pyproject.toml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    replace(tmp_path / "pyproject.toml", 'version = "0.1.0.dev0"', 'version = "0.1.0"')
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def build(folder: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, str(folder / "scripts" / "build_migrations.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def record(folder: Path) -> dict[str, str]:
    known: dict[str, str] = json.loads((folder / "tests" / "postgres" / "migrations.json").read_text())
    return known


def test_the_files_are_those_on_record() -> None:
    found = {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in (ROOT / POSTGRES).glob("migrations/*.sql")
    }
    assert found == record(ROOT), "before 0.1: scripts/build_migrations.py; afterwards: a file that landed was edited"


def test_an_edited_file_is_refused_with_the_way_out(released: Path) -> None:
    assert build(released, "--check") == (0, "up to date\n")
    replace(
        released / POSTGRES / "migrations" / "002_workers.sql", "-- migration body\n", "-- migration body\n-- more\n"
    )
    for options in ([], ["--check"]):
        code, said = build(released, *options)
        assert (code, "landed, and edited since: 002_workers; bring them back" in said) == (1, True), said


def test_a_function_that_changes_goes_into_a_new_file_and_the_old_one_stays(released: Path) -> None:
    landed = record(released)
    for file in ("functions/settle.sql", "sql/ping.sql"):
        path = released / POSTGRES / file
        path.write_text(path.read_text().replace("SELECT", "SELECT /* changed */", 1))
    code, said = build(released)
    assert (code, "changed, and their file has landed: settle, ping; list them in a new file" in said) == (1, True)
    script = released / "scripts" / "build_migrations.py"
    replace(script, "FROM_FUNCTIONS = {\n", 'FROM_FUNCTIONS = {\n    "900_settle": ("settle",),\n')
    replace(script, "FROM_STATEMENTS = {\n", 'FROM_STATEMENTS = {\n    "900_settle": ("ping",),\n')
    assert build(released) == (0, "changed: 900_settle.sql, migrations.json\n")
    now = record(released)
    assert {name: now[name] for name in landed} == landed
    assert "/* changed */" in (released / POSTGRES / "migrations" / "900_settle.sql").read_text()
    assert build(released, "--check") == (0, "up to date\n")
