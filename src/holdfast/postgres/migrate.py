"""Bring the schema to the level that this Holdfast needs, by numbered SQL files, over whatever route gets through.

Each file is one DO block that takes a lock, does nothing when it is on record, and records itself: the same bytes do
the same whether this runner, an SQL editor or psql runs them. So the runner has little to do: read the ledger of
migrations, refuse what does not fit, send what is missing.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from holdfast.errors import ConfigurationError, DatabaseTooOld, DatabaseUnavailable, MigrationError, SchemaMismatch
from holdfast.postgres.calls import Call
from holdfast.postgres.dsn import is_rest
from holdfast.postgres.rest import RestClient
from holdfast.postgres.routes import MIN_SERVER_VERSION, READ_LIMIT, Connected, Route, StatementError
from holdfast.postgres.statements import statement

#: Seconds before a file that met a lock is sent again: each waits for a lock 3 s at most, so as to hold up nobody.
LOCK_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
LOCK_NOT_AVAILABLE = "55P03"
#: What to do about the refusals that have nothing to do with a file.
_WAYS_OUT = {
    "42501": "; migrate as the role that owns the schema holdfast, or, where there is none yet, as one that may create"
    " it: GRANT CREATE ON DATABASE ... TO ...",
    "25006": "; it only reads: is it a standby? DATABASE_URL must lead to the primary, and to a role that may write",
}
_BODY = re.compile(r"^-- migration body\n(.*)^-- end of migration body$", re.DOTALL | re.MULTILINE)
_SEAL = "-- The checksum below covers every byte above this line.\n"
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
            found.append(sealed(Migration(int(record[1]), record[2], record[3], text)))
    return sorted(found, key=lambda migration: migration.version)


def sealed(migration: Migration) -> Migration:
    """The migration, whose checksum is that of all bytes above its trailer; raises `MigrationError` for another."""
    covered = migration.text.partition(_SEAL)[0]
    if hashlib.sha256(covered.encode()).hexdigest() != migration.checksum:
        raise MigrationError(
            f"the file of migration {migration.name} was edited after it was made, and is not applied (its checksum"
            " does not fit): re-install Holdfast, and put what you want to change into a migration of your own; in a"
            " checkout of Holdfast: scripts/build_migrations.py"
        )
    return migration


def load_optional(name: str) -> str:
    """The text of a file that nobody needs, by its name: pg_cron."""
    folder = files("holdfast.postgres") / "optional"
    known = sorted(entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql"))
    if name not in known:
        raise ConfigurationError(f"there is no optional file {name!r}; there is: {', '.join(known)}")
    return (folder / f"{name}.sql").read_text(encoding="utf-8")


def body(text: str) -> str:
    """What a file does, taken out of the block that guards and records it."""
    found = _BODY.search(text)
    if found is None:
        raise MigrationError("a migration has no body between its markers; re-install Holdfast")
    return found[1]


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
    """What is applied, pending, edited or unknown; reads only. Also over HTTPS, once 010 is applied."""
    if is_rest(dsn):
        return _status_over_https(dsn)
    with _connected(dsn) as route:
        return read_status(route)


def migrate_up(dsn: str) -> list[Migration]:
    """Apply what is pending, each file in its own transaction; returns what this call applied.

    Raises `DatabaseUnavailable`, `DatabaseTooOld`, `SchemaMismatch` (the schema is newer), `MigrationError` (a file
    was edited after it had been applied, or failed: then nothing of it was kept).
    """
    with _connected(dsn) as route:
        return list(apply_pending(route, read_status(route)))


def check_schema(dsn: str) -> None:
    """Raise `SchemaMismatch` where the database is behind this Holdfast.

    A newer level is none: it serves the programs of the level before, so that services can be replaced one by one.
    """
    refuse_behind([status for status in migrate_status(dsn) if status.state != "unknown"])


def refuse_behind(statuses: list[MigrationStatus]) -> None:
    """Raise `SchemaMismatch` unless all is applied."""
    refuse(statuses)
    pending = [status.name for status in statuses if status.state == "pending"]
    if pending:
        raise SchemaMismatch(
            f"the database lacks {len(pending)} of {len(statuses)} migrations (next: {pending[0]}); "
            "run: holdfast migrate up"
        )


def read_status(route: Route) -> list[MigrationStatus]:
    """The same as `migrate_status`, over a route."""
    answer = _read(route, "schema_owner")
    with understood(route):
        (found,) = answer
        server_version, has_objects, has_records = (
            int(found[name]) for name in ("server_version", "has_objects", "has_records")
        )
    if server_version < MIN_SERVER_VERSION:
        version = server_version // 10000
        raise DatabaseTooOld(f"this server is Postgres {version}; Holdfast needs Postgres 15 or newer")
    if has_objects and not has_records:
        raise SchemaMismatch(
            f"{route.where} has a schema named holdfast that is not ours: it has no table schema_migrations of our"
            " form; rename that schema (ALTER SCHEMA holdfast RENAME TO ...), or give Holdfast a database of its own."
            " If it is Holdfast's and only that table was lost: holdfast migrate print | psql, which makes it anew and"
            " keeps all jobs"
        )
    rows = _read(route, "migration_records") if has_records else []
    with understood(route):
        recorded = {int(row["version"]): (str(row["name"]), row["checksum"], row["applied_at"]) for row in rows}
    return compare(load(), recorded)


@contextmanager
def understood(route: Route) -> Iterator[None]:
    """Take what came over a route apart; what is no answer to the question is told as such."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatabaseUnavailable(
            f"{route.where} answered something else than it was asked: a proxy in between?"
        ) from error


def apply_pending(
    route: Route,
    statuses: list[MigrationStatus],
    *,
    waits: Callable[[str], None] = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Migration]:
    """Apply what is pending over a route, each file in its own transaction; each as it is done."""
    refuse(statuses)
    pending = {status.version for status in statuses if status.state == "pending"}
    for migration in load():
        if migration.version in pending:
            _apply(route, migration, waits, pause)
            yield migration


def refuse(statuses: list[MigrationStatus]) -> None:
    """Raise for a database that these files do not fit: edited ones, or ones of a newer Holdfast."""
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


def _status_over_https(dsn: str) -> list[MigrationStatus]:
    client = RestClient(dsn)
    try:
        records = client.call(Call("migrate status", statement("migration_records"), {}, tuple), READ_LIMIT)
    finally:
        client.close()
    return compare(load(), {version: (name, checksum, at) for version, name, checksum, at in records})


@contextmanager
def _connected(dsn: str) -> Iterator[Connected]:
    route = Connected(dsn)
    try:
        yield route
    finally:
        route.close()


def _read(route: Route, name: str) -> list[dict[str, Any]]:
    try:
        return route.rows(statement(name))
    except StatementError as error:
        # Without a code of Postgres these are the words of something before it: another way may get through.
        kind = DatabaseUnavailable if error.sqlstate is None else MigrationError
        raise kind(f"{route.where} does not tell what is applied: {error}") from error


def _apply(route: Route, migration: Migration, waits: Callable[[str], None], pause: Callable[[float], None]) -> None:
    for seconds in (*LOCK_PAUSES, None):
        try:
            route.run(migration.text)
            return
        except StatementError as error:
            if error.sqlstate != LOCK_NOT_AVAILABLE:
                raise MigrationError(
                    f"migration {migration.name} failed, and nothing of it was kept: {error}"
                    + _WAYS_OUT.get(error.sqlstate or "", "")
                ) from error
            if seconds is None:
                raise MigrationError(
                    f"migration {migration.name} met a lock {len(LOCK_PAUSES) + 1} times, and nothing of it was kept:"
                    f" {error}; in pg_stat_activity look for whose transaction has been open for long"
                ) from error
            waits(f"{migration.name}: a lock is held by somebody else; again in {seconds:g} s")
            pause(seconds)
