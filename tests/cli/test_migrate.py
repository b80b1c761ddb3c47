"""`holdfast migrate` on databases at every level."""

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import DatabaseUnavailable
from holdfast.postgres.migrate import load, migrate_up
from tests.cli.command import holdfast_here as holdfast
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


def test_a_connection_that_never_comes_about_leaves_a_text_to_paste(empty: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        answer = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=f"postgresql://u:s3cret@127.0.0.1:{port}/x")
    assert answer.code == 3
    assert f"127.0.0.1:{port}" in answer.err
    assert "s3cret" not in answer.err
    assert "paste the whole of holdfast-migrations.sql into your SQL editor, or psql" in answer.err
    by_hand = (tmp_path / "holdfast-migrations.sql").read_bytes()
    for _ in range(3):
        with psycopg.connect(empty, autocommit=True) as session:
            session.execute(by_hand)
    status = json.loads(holdfast("migrate", "status", "--json", cwd=tmp_path, DATABASE_URL=empty).out)
    assert status["up_to_date"] is True


def test_a_supabase_project_that_cannot_be_reached_is_told_its_editor_and_its_pooler(tmp_path: Path) -> None:
    (tmp_path / "holdfast-migrations.sql").write_text("mine")
    url = "postgresql://postgres:s3cret@db.abcdefghij.supabase.co:1/postgres?hostaddr=127.0.0.1"
    answer = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=url)
    assert answer.code == 3
    assert "https://supabase.com/dashboard/project/abcdefghij/sql/new" in answer.err
    assert "the session pooler's address (port 5432)" in answer.err
    assert "With SUPABASE_ACCESS_TOKEN set" in answer.err
    assert "pooler  not tried: set SUPABASE_ACCESS_TOKEN" in answer.err
    assert "s3cret" not in answer.err + answer.out
    assert (tmp_path / "holdfast-migrations.sql").read_text() == "mine"
    assert (tmp_path / "holdfast-migrations-2.sql").read_text().startswith("-- Holdfast: all migrations")


def test_a_name_that_takes_for_ever_to_resolve_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("holdfast.postgres.routes.CONNECT_LIMIT", 0.05)

    def resolve(*_: object, **__: object) -> None:
        release.wait()
        raise DatabaseUnavailable("too late")

    monkeypatch.setattr("holdfast.postgres.routes.connect_sync", resolve)
    with pytest.raises(DatabaseUnavailable, match=r"did not answer within 0\.05 s"):
        migrate_up("postgresql://u:p@example.invalid/x")
    release.set()
