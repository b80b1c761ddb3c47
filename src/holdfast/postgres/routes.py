"""Ways to run SQL on the ledger's database: the seam that migrations go through, whatever the network lets out."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from holdfast.errors import DatabaseTooOld, DatabaseUnavailable
from holdfast.postgres.connection import BlockingConnection, connect_sync, translated
from holdfast.postgres.dsn import shown

MIN_SERVER_VERSION = 150000
#: Seconds: to connect, whatever the name resolver and a host's several addresses take; to read; to apply one file.
CONNECT_LIMIT = 5.0
READ_LIMIT = 10.0
APPLY_LIMIT = 900.0
#: How the codes begin with which a server says that it is lost to us, and not what it has against a statement.
_LOST = ("08", "57P", "53")


class StatementError(Exception):
    """Postgres refused a statement, and nothing of it was kept. `sqlstate` is None where the route hides it."""

    def __init__(self, sqlstate: str | None, message: str) -> None:
        super().__init__(message.partition("\n")[0])
        self.sqlstate = sqlstate


class Route(Protocol):
    """One way. `rows` reads, `run` runs a whole file; both raise `StatementError`, or a `DatabaseError` of the way."""

    @property
    def name(self) -> str: ...

    @property
    def where(self) -> str: ...

    def rows(self, query: str) -> list[dict[str, Any]]: ...

    def run(self, text: str) -> None: ...

    def close(self) -> None: ...


class Connected:
    """A connection of the driver, directly or through a pooler; opened at the first use."""

    def __init__(self, dsn: str, name: str = "direct") -> None:
        self.name = name
        self.where = shown(dsn)
        self._dsn = dsn
        self._connection: BlockingConnection | None = None

    def rows(self, query: str) -> list[dict[str, Any]]:
        connection = self._open()
        connection.until = time.monotonic() + READ_LIMIT
        with refusals(), translated(), connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode()).fetchall()

    def run(self, text: str) -> None:
        connection = self._open()
        connection.until = time.monotonic() + APPLY_LIMIT
        with refusals(), translated(), _in_the_server_s_words():
            connection.execute(text.encode())

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> BlockingConnection:
        if self._connection is None or self._connection.closed:
            connection = within_limit(self._dsn)
            if connection.info.server_version < MIN_SERVER_VERSION:
                version = connection.info.server_version // 10000
                connection.close()
                raise DatabaseTooOld(f"this server is Postgres {version}; Holdfast needs Postgres 15 or newer")
            self._connection = connection
        return self._connection


@contextmanager
def _in_the_server_s_words() -> Iterator[None]:
    """Whatever the server has against a file is told with the file, and not as the state of a running ledger."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(_LOST):
            raise
        raise StatementError(error.sqlstate, str(error)) from error


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what the driver says of a statement into `StatementError`."""
    try:
        yield
    except psycopg.Error as error:
        raise StatementError(error.sqlstate, str(error)) from error
    except DatabaseUnavailable as error:
        # A lock that was not granted in time is no outage: it is tried again.
        cause = error.__cause__
        if isinstance(cause, psycopg.errors.LockNotAvailable):
            raise StatementError(cause.sqlstate, str(cause)) from cause
        raise


def within_limit(dsn: str) -> BlockingConnection:
    """A connection within CONNECT_LIMIT: the driver's own limit counts anew for each address of a host.

    A thread that waits for the name resolver cannot be stopped; it is left behind, and closes what it still gets.
    """
    done = threading.Event()
    made: list[BlockingConnection] = []
    failed: list[Exception] = []
    given_up = threading.Event()

    def connect() -> None:
        try:
            made.append(connect_sync(dsn, application_name="holdfast migrate"))
        except Exception as error:
            failed.append(error)
        done.set()
        if given_up.is_set() and made:
            made[0].close()

    threading.Thread(target=connect, name="holdfast connect", daemon=True).start()
    if not done.wait(CONNECT_LIMIT):
        given_up.set()
        raise DatabaseUnavailable(
            f"{shown(dsn)} did not answer within {CONNECT_LIMIT:g} s: no route, or a firewall that drops the packets"
        )
    if failed:
        raise failed[0]
    return made[0]
