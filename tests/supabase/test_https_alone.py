"""Where nothing but HTTPS gets out: migrated over the Management API, run and verified over PostgREST."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from holdfast.postgres.migrate import load
from tests.cli.command import Answer, Running, environment, eventually, holdfast, running
from tests.supabase.management_server import REF, TOKEN, management_server
from tests.supabase.project import SECRET_KEY, Project, gateway, postgrest
from tests.support import rows

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

TASKS = """
from holdfast import Holdfast

hf = Holdfast()


@hf.job()
async def double(n: int) -> int:
    return 2 * n
"""
SEND = """
from tasks import double, hf

print(double.enqueue_sync(n=21).result_sync(timeout=30))
hf.close_sync()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the program lies; short, since a socket's path is."""
    made = Path(tempfile.mkdtemp(prefix="holdfast-https-", dir="/tmp"))
    (made / "tasks.py").write_text(TASKS)
    (made / "send.py").write_text(SEND)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def closed(**given: str) -> dict[str, str]:
    """The environment of somebody behind a firewall: the database's own port is closed."""
    address = f"postgresql://postgres:s3cret@db.{REF}.supabase.co:1/postgres?hostaddr=127.0.0.1"
    return {"DATABASE_URL": address, **given}


def well(up: Running, folder: Path, where: dict[str, str]) -> Answer:
    """The first verify without a word of warning: a monitor has to have swept, and what is slow is said."""

    def look() -> Answer | None:
        answer = holdfast("verify", cwd=folder, **where)
        return answer if answer.code == 0 and "\nwarn" not in f"\n{answer.out}" else None

    return eventually(look, lambda: up.explain() + holdfast("verify", cwd=folder, **where).out, within=120)


def test_migrated_over_the_management_api_and_verified_over_postgrest(
    project_database: str, folder: Path, tmp_path: Path
) -> None:
    with management_server(project_database) as api:
        given = closed(SUPABASE_ACCESS_TOKEN=TOKEN, HOLDFAST_SUPABASE_API_URL=api.address)
        migrated = holdfast("migrate", "up", cwd=folder, **given)
    assert migrated.code == 0, migrated.err
    assert migrated.out.count("applied ") == len(load())
    with (
        postgrest(project_database, tmp_path) as behind,
        gateway(project_database, behind) as project,
        # The workers run elsewhere, where the database can be reached.
        running("up", "tasks:hf", "--port", "0", cwd=folder, DATABASE_URL=project_database,
                HOLDFAST_RUN_DIR=str(folder / "run")) as up,
    ):  # fmt: skip
        up.says("database")
        where = closed(SUPABASE_URL=project.url, SUPABASE_SERVICE_KEY=SECRET_KEY, HOLDFAST_RUN_DIR=str(folder / "run"))
        answer = well(up, folder, where)
    lines = [line for line in answer.out.partition("COMPONENT")[0].splitlines() if line]
    skipped = [line for line in lines if not line.startswith("pass")]
    assert all(line.startswith("skip") for line in skipped), answer.out
    for told in ("skip  connection ", "skip  route direct ", "skip  route pooler ", "skip  route api "):
        assert any(line.startswith(told) for line in skipped), answer.out
    ways, deployed = ("connection", "route"), ("workers", "settings")
    others = [line for line in skipped if not line[6:].startswith(ways + deployed)]
    assert others == [], "nothing else needs a connection"
    assert any(line.startswith("pass  route https") and "the ledger answers" in line for line in lines)
    assert any(
        "database" in line and f"{project.url.removeprefix('http://')} over HTTPS answers" in line for line in lines
    )
    assert SECRET_KEY not in answer.out + answer.err
    assert "s3cret" not in answer.out + answer.err


def test_what_is_applied_is_seen_over_postgrest_and_what_is_pending_is_left_to_another_way(
    project: Project, folder: Path
) -> None:
    where = closed(SUPABASE_URL=project.url, SUPABASE_SERVICE_KEY=SECRET_KEY)
    status = holdfast("migrate", "status", cwd=folder, **where)
    assert status.code == 0, status.out + status.err
    assert "https   " in status.out
    assert holdfast("migrate", "verify", "--via", "https", cwd=folder, **where).code == 0
    assert holdfast("migrate", "up", cwd=folder, **where).out.splitlines()[-1].startswith("nothing to do: ")
    with psycopg.connect(project.dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM holdfast.schema_migrations WHERE version = 10")
    pending = holdfast("migrate", "up", cwd=folder, **where)
    assert pending.code == 3
    assert "shows that migrations are pending, and cannot apply them" in pending.err
    assert f"https://supabase.com/dashboard/project/{REF}/sql/new" in pending.err
    with running("migrate", "up", "--via", "paste", cwd=folder, **where) as pasting:
        pasting.says("010_functions_over_https: paste the whole of")
        with psycopg.connect(project.dsn, autocommit=True) as editor:
            editor.execute((folder / "holdfast-010_functions_over_https.sql").read_bytes())
        pasting.says("applied 010_functions_over_https")
        assert pasting.ends() == 0


def test_everything_runs_over_https_alone(project: Project, folder: Path) -> None:
    where = {
        "SUPABASE_URL": project.url,
        "SUPABASE_SERVICE_KEY": SECRET_KEY,
        "HOLDFAST_RUN_DIR": str(folder / "run"),
    }
    with running("up", "tasks:hf", "--port", "0", cwd=folder, **where) as up:
        up.says("over HTTPS")
        answer = well(up, folder, where)
        sent = subprocess.run(
            [sys.executable, "send.py"],
            cwd=folder,
            env=environment(**where),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "skip" in answer.out
    assert SECRET_KEY not in answer.out + answer.err + up.text
    with psycopg.connect(project.dsn, autocommit=True, row_factory=dict_row) as conn:
        done = rows(conn, "SELECT status FROM holdfast.jobs WHERE kind = 'holdfast.canary'")
    assert {each["status"] for each in done} == {"succeeded"}
    assert (sent.stdout, sent.returncode) == ("42\n", 0), sent.stderr
