"""Bring the schema to the level that this Holdfast needs, by numbered SQL files over a direct connection.

Each file is one DO block that takes a lock, does nothing when it is on record, and records itself: the same bytes do
the same whether this runner, an SQL editor or psql runs them. So the runner has little to do: read the ledger of
migrations, refuse what does not fit, send what is missing.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg.rows import dict_row

from holdfast.errors import DatabaseTooOld, DatabaseUnavailable, MigrationError, SchemaMismatch
from holdfast.postgres.connection import BlockingConnection, connect_sync, translated
from holdfast.postgres.dsn import shown

MIN_SERVER_VERSION = 150000
#: Seconds: to connect, whatever the name resolver and a host's several addresses take; to read; to apply one file.
CONNECT_LIMIT = 5.0
READ_LIMIT = 10.0
APPLY_LIMIT = 900.0
_RECORD = re.compile(r"VALUES \((\d+), '([^']+)', '([0-9a-f]{64})'\);")


@dataclass(frozen=True)
class Migration:
    """One numbered file, as it ships."""

    version: int
    name: str
    checksum: str
    text: str


@dataclass(frozen=True)
class MigrationStatus:
    """What the database says of one file: `state` is applied, pending, edited or unknown.

    `edited`: on record with another checksum. `unknown`: on record, but this Holdfast has no such file.
    """

    version: int
    name: str
    state: str
    applied_at: str | None


def load() -> list[Migration]:
    """The files of this Holdfast, in their number's order."""
    found = []
    for entry in (files("holdfast.postgres") / "migrations").iterdir():
        if entry.name.endswith(".sql"):
            text = entry.read_text(encoding="utf-8")
            record = _RECORD.search(text)
            if record is None:
                raise MigrationError(f"migration {entry.name} has no trailer that records it; re-install Holdfast")
            found.append(Migration(int(record[1]), record[2], record[3], text))
    return sorted(found, key=lambda migration: migration.version)


def compare(migrations: list[Migration], recorded: dict[int, tuple[str, str, str]]) -> list[MigrationStatus]:
    """Pure: files against the database's records {version: (name, checksum, applied_at)}."""
    known = {migration.version for migration in migrations}
    statuses = []
    for migration in migrations:
        record = recorded.get(migration.version)
        if record is None:
            statuses.append(MigrationStatus(migration.version, migration.name, "pending", None))
        else:
            state = "applied" if record[1] == migration.checksum else "edited"
            statuses.append(MigrationStatus(migration.version, migration.name, state, record[2]))
    statuses += [
        MigrationStatus(version, name, "unknown", applied_at)
        for version, (name, _, applied_at) in sorted(recorded.items())
        if version not in known
    ]
    return statuses


def migrate_status(dsn: str) -> list[MigrationStatus]:
    """What is applied, pending, edited or unknown; reads only."""
    with _connected(dsn) as connection:
        return _status(connection)


def migrate_up(dsn: str) -> list[Migration]:
    """Apply what is pending, each file in its own transaction; returns what this call applied.

    Raises `DatabaseUnavailable`, `DatabaseTooOld`, `SchemaMismatch` (the schema is newer), `MigrationError` (a file
    was edited after it had been applied, or failed: then nothing of it was kept).
    """
    with _connected(dsn) as connection:
        before = {status.version: status for status in _status(connection)}
        _refuse(list(before.values()))
        applied = []
        for migration in load():
            if before[migration.version].state == "pending":
                _apply(connection, migration)
                applied.append(migration)
        return applied


def check_schema(dsn: str) -> None:
    """Raise `SchemaMismatch` unless the database is exactly at this Holdfast's level."""
    statuses = migrate_status(dsn)
    _refuse(statuses)
    pending = [status.name for status in statuses if status.state == "pending"]
    if pending:
        raise SchemaMismatch(
            f"the database lacks {len(pending)} of {len(statuses)} migrations (next: {pending[0]}); "
            "run: holdfast migrate up"
        )


@contextmanager
def _connected(dsn: str) -> Iterator[BlockingConnection]:
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
    with made[0] as connection:
        yield connection


def _status(connection: BlockingConnection) -> list[MigrationStatus]:
    if connection.info.server_version < MIN_SERVER_VERSION:
        version = connection.info.server_version // 10000
        raise DatabaseTooOld(f"this server is Postgres {version}; Holdfast needs Postgres 15 or newer")
    connection.until = time.monotonic() + READ_LIMIT
    with translated(), connection.cursor(row_factory=dict_row) as cursor:
        exists = cursor.execute("SELECT to_regclass('holdfast.schema_migrations') IS NOT NULL AS yes").fetchone()
        rows = []
        if exists and exists["yes"]:
            rows = cursor.execute(
                "SELECT version, name, checksum, applied_at::text FROM holdfast.schema_migrations"
            ).fetchall()
    return compare(load(), {row["version"]: (row["name"], row["checksum"], row["applied_at"]) for row in rows})


def _refuse(statuses: list[MigrationStatus]) -> None:
    for status in statuses:
        if status.state == "edited":
            raise MigrationError(
                f"migration {status.name} was applied to this database with other contents than this Holdfast has; "
                "use the Holdfast version that applied it, or a new database"
            )
        if status.state == "unknown":
            raise SchemaMismatch(
                f"the database is newer than this Holdfast: it has migration {status.name}; upgrade Holdfast"
            )


def _apply(connection: BlockingConnection, migration: Migration) -> None:
    connection.until = time.monotonic() + APPLY_LIMIT
    try:
        with translated():
            connection.execute(migration.text.encode())
    except psycopg.Error as error:
        reason = str(error).partition("\n")[0]
        raise MigrationError(f"migration {migration.name} failed, and nothing of it was kept: {reason}") from error
