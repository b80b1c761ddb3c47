"""`holdfast migrate export`: the same bytes as files of other tools."""

import re
import runpy
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from holdfast.postgres.migrate import load, migrate_status
from tests.cli.command import holdfast
from tests.support import database_copy


@pytest.fixture
def empty(bare: str) -> Iterator[str]:
    with database_copy(bare, "template0") as dsn:
        yield dsn


def test_supabase_s_files_are_ordered_by_their_names_and_written_once(tmp_path: Path) -> None:
    (tmp_path / "supabase/migrations").mkdir(parents=True)
    first = holdfast("migrate", "export", "--format", "supabase", cwd=tmp_path)
    assert first.code == 0, first.err
    found = sorted((tmp_path / "supabase/migrations").iterdir())
    assert [path.read_text() for path in found] == [migration.text for migration in load()]
    assert all(re.fullmatch(r"\d{14}_holdfast_\d{3}_\w+\.sql", path.name) for path in found)
    found[-1].unlink()
    again = holdfast("migrate", "export", "--format", "supabase", cwd=tmp_path)
    assert again.out.count("wrote ") == 1
    assert "nothing to write" in holdfast("migrate", "export", "--format", "supabase", cwd=tmp_path).out


def test_psql_applies_the_files_as_the_command_says(empty: str, tmp_path: Path) -> None:
    done = holdfast("migrate", "export", "--format", "psql", "--to", "my sql", cwd=tmp_path)
    command = done.out.partition("apply them with: ")[2].strip()
    for _ in range(2):
        ran = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=tmp_path,
            env={"DATABASE_URL": empty, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
    assert {status.state for status in migrate_status(empty)} == {"applied"}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_alembic_s_revisions_run_on_sqlalchemy(
    empty: str, tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what alembic gives a revision, its `op.get_bind()`; the chain of revisions is the files' order."""
    assert holdfast("migrate", "export", "--format", "alembic", "--to", "versions", cwd=tmp_path).code == 0
    module = __import__(driver)
    engine = sqlalchemy.create_engine(f"postgresql+{driver}://", creator=lambda: module.connect(empty))
    files = sorted((tmp_path / "versions").iterdir())
    before = None
    with engine.begin() as connection:
        op = types.SimpleNamespace(get_bind=lambda: connection)
        monkeypatch.setitem(sys.modules, "alembic", types.SimpleNamespace(op=op))
        for path in files:
            revision = runpy.run_path(str(path))
            assert revision["down_revision"] == before
            revision["upgrade"]()
            before = revision["revision"]
    engine.dispose()
    assert {status.state for status in migrate_status(empty)} == {"applied"}
