"""The ledger's and the rate limiter's tests once more, through PgBouncer in transaction mode; and how it is known."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.postgres.bell import Bell
from holdfast.postgres.connection import connect_async, connect_sync
from holdfast.postgres.dsn import is_pooled
from holdfast.postgres.migrate import load, migrate_up
from tests.postgres.pgbouncer import VARIABLE, pooled
from tests.support import database_copy, open_session, rows

ROOT = Path(__file__).resolve().parents[2]


#: The files, and what of them is left out. Of the worker: nobody hears a bell there, which is what polling is for, and
#: the pooler keeps connections that we closed. Of the settler: what a dropped connection was running goes on behind a
#: pooler, so that a second try finds it done ("already").
SUITES: dict[str, list[str]] = {
    "tests/postgres/test_protocol.py": [],
    "tests/postgres/test_transitions.py": [],
    "tests/postgres/test_locked_rows.py": [],
    "tests/postgres/test_ringing.py": [],
    "tests/postgres/test_prune.py": [],
    "tests/postgres/test_dead_letters.py": [],
    "tests/postgres/test_health_report.py": [],
    "tests/postgres/test_migrations.py": [],
    "tests/services/test_scheduler.py": [],
    "tests/services/test_settler.py": ["somebody_holds_locked"],
    "tests/services/test_sweeper.py": [],
    "tests/services/test_beat.py": [],
    "tests/services/test_worker.py": ["bell", "polling_finds", "more_jobs_than_slots", "fence_falls", "over_and_over"],
    "tests/postgres/test_rate_limit.py": [],
    "tests/services/test_limiter.py": [],
    "tests/services/test_limiter_outage.py": [],
    "tests/services/test_limiter_processes.py": [],
    "tests/web/test_rate_limit.py": [],
}


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("suite", list(SUITES))
def test_the_suite_passes_through_a_transaction_pooler(suite: str) -> None:
    wanted = ["-m", "not full and not chaos", suite]
    if SUITES[suite]:
        wanted += ["-k", " and ".join(f"not {name}" for name in SUITES[suite])]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *wanted]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, VARIABLE: "1"}, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.full
@pytest.mark.parametrize("ignored", ["extra_float_digits", "extra_float_digits,options"])
async def test_a_transaction_pooler_is_known_by_what_it_says_whatever_its_port(database: str, ignored: str) -> None:
    """On no port of its own it refuses our session settings, or it takes them and speaks of another process."""
    with pooled(database, port=6432, ignored=ignored) as dsn:
        assert not is_pooled(dsn)
        blocking = connect_sync(dsn, application_name="holdfast")
        assert is_pooled(dsn)
        assert blocking.prepare_threshold is None
        for number in range(20):
            assert blocking.execute("SELECT %s::integer", (number,)).fetchone() == (number,)
        blocking.close()
    with pooled(database, port=6433, ignored=ignored) as dsn:
        connection = await connect_async(dsn, application_name="holdfast")
        assert is_pooled(dsn)
        assert connection.prepare_threshold is None
        await connection.close()
        async with asyncio.timeout(30):
            await Bell(dsn, ["default"], lambda: None).listen("holdfast bell")  # ends: LISTEN would hear nothing


@pytest.mark.full
def test_eight_migrators_through_a_transaction_pooler_apply_each_file_once(bare: str) -> None:
    with database_copy(bare, "template0") as dsn, pooled(dsn) as through, ThreadPoolExecutor(8) as pool:
        done = [each.result() for each in [pool.submit(migrate_up, through) for _ in range(8)]]
        with open_session(dsn) as conn:
            recorded = rows(conn, "SELECT version, xmin::text AS writer FROM holdfast.schema_migrations ORDER BY 1")
    assert [each["version"] for each in recorded] == [migration.version for migration in load()]
    assert len({each["writer"] for each in recorded}) == len(load())
    assert sum(map(len, done)) >= len(load())


def test_a_direct_connection_is_not_taken_for_a_pooler(database: str) -> None:
    connect_sync(database, application_name="holdfast").close()
    assert not is_pooled(database)
