"""A login that does not own the schema, and is a member of holdfast_app, runs everything."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from holdfast.postgres.migrate import migrate_up
from tests.cli.command import eventually, holdfast, running
from tests.support import database_copy

TASKS = "from holdfast import Holdfast\n\nhf = Holdfast()\n\n\n@hf.job()\ndef nothing() -> None: ...\n"


@pytest.fixture
def member(bare: str) -> Iterator[str]:
    """The DSN of such a login, on a database that was migrated by its owner."""
    with database_copy(bare, "template0") as dsn:
        migrate_up(dsn)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("CREATE ROLE holdfast_member LOGIN; GRANT holdfast_app TO holdfast_member")
            try:
                yield conninfo.make_conninfo(dsn, user="holdfast_member")
            finally:
                conn.execute("DROP ROLE holdfast_member")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="holdfast-member-", dir="/tmp"))
    (made / "tasks.py").write_text(TASKS)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_member_of_the_group_role_runs_and_verifies_everything(member: str, folder: Path) -> None:
    where = {"DATABASE_URL": member, "HOLDFAST_RUN_DIR": str(folder / "run"), "HOLDFAST_TERMINATION_GRACE": "60"}
    with running("up", "tasks:hf", "--port", "0", cwd=folder, **where) as up:
        answer = eventually(
            lambda: found if (found := holdfast("verify", cwd=folder, **where)).code == 0 else None,
            lambda: up.explain() + holdfast("verify", cwd=folder, **where).out,
        )
    said = {line[:4] for line in answer.out.partition("COMPONENT")[0].splitlines() if line}
    assert "pass" in said
    assert not said & {"fail", "skip"}, answer.out
    assert "permission denied" not in up.text
    refused = holdfast("migrate", "up", cwd=folder, **where)
    assert refused.out.startswith("nothing to do: ")
