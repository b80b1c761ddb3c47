"""One real Postgres for the whole run; each test has a database of its own, copied from a migrated template."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.throwaway import prepare
from tests.postgres.pgbouncer import VARIABLE, pooled
from tests.sqs.local import LocalSqs, local_sqs
from tests.support import Session, database_copy, open_session, with_database

# Nothing here has to survive a crash. Autovacuum stays off so that plans depend on what a test did, not on when.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "1h",
}


def roomy_folder() -> str:
    """In memory where there is plenty: a database a test is 300 files made and deleted, which ext4 takes 90 ms for.
    Never one of pytest's own folders, which are closed to the account that root drops to."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 8 * 2**30 else "/tmp"


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    base = Path(tempfile.mkdtemp(prefix="holdfast-tests-", dir=roomy_folder()))
    base.chmod(0o755)
    try:
        with EmbeddedPostgres(base / "data", settings=SETTINGS) as running:
            yield running
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def bare(server: EmbeddedPostgres) -> str:
    """The server's own database, which stays empty: where databases are made and dropped."""
    return server.dsn


@pytest.fixture(scope="session")
def template(bare: str) -> str:
    """The name of a database with all migrations and the test clock."""
    with psycopg.connect(bare, autocommit=True) as conn:
        conn.execute("CREATE DATABASE holdfast_template")
    dsn = with_database(bare, "holdfast_template")
    prepare(dsn)
    return "holdfast_template"


@pytest.fixture(scope="session")
def sqs() -> Iterator[LocalSqs]:
    """A local SQS server for the whole run; each test makes queues of its own."""
    with local_sqs() as server:
        yield server


@pytest.fixture
def database(bare: str, template: str) -> Iterator[str]:
    """The DSN of a migrated, empty database that only this test sees."""
    with database_copy(bare, template) as dsn:
        if not os.environ.get(VARIABLE):
            yield dsn
            return
        with pooled(dsn) as through:
            yield through


@pytest.fixture
def connect(database: str) -> Iterator[Callable[[], Session]]:
    """A factory of sessions on this test's database: autocommit, rows as dicts; closed at the end."""
    opened: list[Session] = []

    def factory() -> Session:
        opened.append(open_session(database))
        return opened[-1]

    yield factory
    for session in opened:
        session.close()


@pytest.fixture
def conn(connect: Callable[[], Session]) -> Session:
    """One session, for the many tests that need no more."""
    return connect()
