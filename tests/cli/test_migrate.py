"""`holdfast migrate` on databases at every level."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.postgres.migrate import load
from tests.cli.command import holdfast
from tests.support import Session, database_copy

NEWEST = load()[-1].version


@pytest.fixture
def empty(bare: str) -> Iterator[str]:
    """The DSN of a database without anything."""
    with database_copy(bare, "template0") as dsn:
        yield dsn


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for a local server, where the account that root drops to can reach it."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-cli-", dir="/tmp"))
    base.chmod(0o755)
    yield base / "data"
    shutil.rmtree(base, ignore_errors=True)


def test_up_says_what_it_applied_and_then_that_nothing_is_to_do(empty: str, tmp_path: Path) -> None:
    first = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=empty)
    assert first.code == 0
    assert [line for line in first.out.splitlines() if line.startswith("applied")] == [
        f"applied {migration.name}" for migration in load()
    ]
    assert f"is now at version {NEWEST}" in first.out
    again = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=empty)
    assert again.code == 0
    assert again.out.startswith("nothing to do: ")


def test_up_answers_programs(empty: str, tmp_path: Path) -> None:
    answer = json.loads(holdfast("migrate", "up", "--json", "--database-url", empty, cwd=tmp_path).out)
    assert answer["schema"] == 1
    assert answer["version"] == NEWEST
    assert [entry["version"] for entry in answer["applied"]] == [migration.version for migration in load()]


def test_status_exits_1_while_something_is_pending(empty: str, tmp_path: Path) -> None:
    before = holdfast("migrate", "status", cwd=tmp_path, DATABASE_URL=empty)
    assert before.code == 1
    assert before.out.count(" pending") == len(load()) + 1
    assert "to apply what is pending: holdfast migrate up" in before.out
    assert holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=empty).code == 0
    after = holdfast("migrate", "status", cwd=tmp_path, DATABASE_URL=empty)
    assert after.code == 0
    assert "pending" not in after.out
    assert " ago" in after.out or "just now" in after.out


def test_status_answers_programs(database: str, tmp_path: Path) -> None:
    done = holdfast("migrate", "status", "--json", cwd=tmp_path, DATABASE_URL=database)
    answer = json.loads(done.out)
    assert (done.code, answer["schema"], answer["up_to_date"]) == (0, 1, True)
    assert all("T" in entry["applied_at"] and entry["state"] == "applied" for entry in answer["migrations"])


def test_status_shows_a_migration_from_the_future(database: str, conn: Session, tmp_path: Path) -> None:
    conn.execute("INSERT INTO holdfast.schema_migrations (version, name, checksum) VALUES (999, '999_future', 'x')")
    answer = holdfast("migrate", "status", cwd=tmp_path, DATABASE_URL=database)
    assert answer.code == 1
    assert "999_future" in answer.out
    assert "upgrade this one" in answer.out


def test_status_shows_an_edited_migration(database: str, conn: Session, tmp_path: Path) -> None:
    conn.execute("UPDATE holdfast.schema_migrations SET checksum = 'x' WHERE version = 1")
    assert "applied with other contents" in holdfast("migrate", "status", cwd=tmp_path, DATABASE_URL=database).out
    up = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=database)
    assert (up.code, up.err.startswith("error: migration 001_ledger was applied")) == (1, True)


def test_print_writes_the_files_text(tmp_path: Path) -> None:
    assert holdfast("migrate", "print", cwd=tmp_path).out == "".join(migration.text for migration in load())
    assert holdfast("migrate", "print", "--from", str(NEWEST), cwd=tmp_path).out == load()[-1].text


def test_print_from_beyond_the_newest_is_refused(tmp_path: Path) -> None:
    answer = holdfast("migrate", "print", "--from", "9999", cwd=tmp_path)
    assert answer.code == 2
    assert answer.err == f"error: --from 9999: the newest migration is {NEWEST}\n"


def test_the_local_server_is_started_and_stopped_for_a_command(data_dir: Path, tmp_path: Path) -> None:
    status = holdfast("migrate", "status", "--data-dir", str(data_dir), cwd=tmp_path)
    assert (status.code, f"local Postgres in {data_dir}" in status.out) == (1, True), status.err
    assert holdfast("migrate", "up", cwd=tmp_path, HOLDFAST_DATA_DIR=str(data_dir)).code == 0
    listed = holdfast(
        "jobs", "list", "--data-dir", str(data_dir), cwd=tmp_path, DATABASE_URL="postgresql://u@127.0.0.1:1/"
    )
    assert (listed.code, listed.out) == (0, "no jobs yet\n"), listed.err
    assert not (data_dir / "postmaster.pid").exists()
