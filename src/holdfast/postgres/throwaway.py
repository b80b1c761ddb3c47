"""Databases for tests: made for one test and dropped after it, with a clock that can be moved."""

import atexit
import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

import psycopg
from psycopg import conninfo, sql

from holdfast.errors import ConfigurationError
from holdfast.postgres.connection import translated
from holdfast.postgres.dsn import shown
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up

#: Nothing of it has to survive a crash.
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

#: Real time and a shift. `started_at` is when Postgres claims to have begun to serve; while it is null, that is an hour
#: ago, whatever the time: so the brake has no reason to hold.
CLOCK = """
CREATE SCHEMA IF NOT EXISTS holdfast_test;
CREATE TABLE IF NOT EXISTS holdfast_test.clock (shift interval NOT NULL, started_at timestamptz);
DELETE FROM holdfast_test.clock;
INSERT INTO holdfast_test.clock VALUES ('0', NULL);
CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS 'SELECT clock_timestamp() + (SELECT shift FROM holdfast_test.clock)';
CREATE OR REPLACE FUNCTION holdfast.postgres_started_at() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$SELECT coalesce((SELECT started_at FROM holdfast_test.clock), holdfast.clock() - interval '1 hour')$$;
"""
EMPTY = """
TRUNCATE holdfast.jobs, holdfast.job_events, holdfast.workers, holdfast.queues, holdfast.schedules,
    holdfast.rate_limit_requests;
UPDATE holdfast.monitors SET swept_at = NULL, resumed_at = NULL, hold = NULL, last_result = NULL;
"""


@cache
def local_server() -> str:
    """The DSN of a server for this process's tests alone, started at the first call and removed when the process ends.

    Below /tmp, since an account that root drops to must reach it.
    """
    base = Path(tempfile.mkdtemp(prefix="holdfast-tests-", dir="/tmp" if Path("/tmp").is_dir() else None))  # noqa: S108
    base.chmod(0o755)
    server = EmbeddedPostgres(base / "data", settings=QUICK)
    pid = os.getpid()

    def remove() -> None:
        if os.getpid() == pid:
            server.stop()
            shutil.rmtree(base, ignore_errors=True)

    atexit.register(remove)
    return server.start()


@dataclass
class _Server:
    """A server that databases are made on, all copies of one template."""

    dsn: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    turn: threading.Lock = field(default_factory=threading.Lock)
    template: str | None = None

    def name(self) -> str:
        return f"holdfast_test_{os.getpid()}_{next(self.numbers)}"

    def made_template(self, admin: psycopg.Connection) -> str:
        with self.turn:
            if self.template is None:
                name = self.name()
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                prepare(conninfo.make_conninfo(self.dsn, dbname=name))
                self.template = name
                atexit.register(self._drop, name)
            return self.template

    def _drop(self, name: str) -> None:
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.dsn, autocommit=True, connect_timeout=3) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@cache
def _server(dsn: str, _pid: int) -> _Server:
    return _Server(dsn)


@contextlib.contextmanager
def new_database(server_dsn: str) -> Iterator[str]:
    """The DSN of a migrated, empty database of its own on this server; it is dropped whoever still uses it."""
    server = _server(server_dsn, os.getpid())
    with translated(server_dsn), psycopg.connect(server_dsn, autocommit=True, connect_timeout=5) as admin:
        template, name = sql.Identifier(server.made_template(admin)), server.name()
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), template))
        try:
            yield conninfo.make_conninfo(server_dsn, dbname=name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def emptied_database(dsn: str) -> Iterator[str]:
    """This very database, migrated, with the clock of tests, and without the jobs of earlier tests.

    `ConfigurationError` unless its name says that it is for tests: its jobs are deleted.
    """
    name = conninfo.conninfo_to_dict(dsn).get("dbname") or ""
    if "test" not in str(name):
        raise ConfigurationError(
            f"{shown(dsn)} would be emptied, and its name does not say that it is for tests; "
            "use one whose name holds 'test', or leave in_place out"
        )
    prepare(dsn)
    with translated(dsn), psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        connection.execute(EMPTY)
    yield dsn


def prepare(dsn: str) -> None:
    """Migrate a database and give it the clock of tests."""
    migrate_up(dsn)
    with translated(dsn), psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        connection.execute(CLOCK)


def advance(dsn: str, by: timedelta) -> None:
    """Move the clock of a database that `prepare` gave one."""
    with translated(dsn), psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
        connection.execute("UPDATE holdfast_test.clock SET shift = shift + %s", (by,))
