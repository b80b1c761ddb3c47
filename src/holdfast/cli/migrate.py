"""`holdfast migrate`: bring the schema to this Holdfast's level, see where it stands, or take the SQL elsewhere."""

import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli import by_hand
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, read_settings
from holdfast.cli.output import print_json, relative, show, table
from holdfast.errors import ConfigurationError, DatabaseUnavailable
from holdfast.postgres.database import Database
from holdfast.postgres.dsn import parse
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import MigrationStatus, load, migrate_status, migrate_up

_STYLES = {"applied": "green", "pending": "yellow", "edited": "red", "unknown": "red"}
_ADVICE = {
    "pending": "to apply what is pending: holdfast migrate up",
    "edited": "an edited migration was applied with other contents: use the Holdfast version that applied it",
    "unknown": "an unknown migration came from a newer Holdfast: upgrade this one",
}

migrate = typer.Typer(help="Bring the database's schema to this Holdfast's level.", no_args_is_help=True)


@migrate.command()
def up(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Apply what is pending, each migration in its own transaction.

    Where no connection gets through it says why, and writes all migrations as one text to paste into an SQL editor.
    """
    with _target(database_url, data_dir) as database:
        try:
            applied = migrate_up(database.dsn)
        except DatabaseUnavailable as error:
            raise (error if database.is_local else by_hand.unreachable(error, database.dsn)) from error
        where = database.describe()
    newest = load()[-1]
    if as_json:
        found = [{"version": migration.version, "name": migration.name} for migration in applied]
        print_json(database=where, applied=found, version=newest.version)
    elif applied:
        for migration in applied:
            show(Text.assemble(("applied ", "green"), migration.name))
        show(f"{where} is now at version {newest.version}")
    else:
        show(f"nothing to do: {where} is at version {newest.version}")


@migrate.command(epilog="Exit code 1 when the database is not at this Holdfast's level.")
def status(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """What is applied, and what is not."""
    with _target(database_url, data_dir) as database:
        found = migrate_status(database.dsn)
        where = database.describe()
    up_to_date = all(entry.state == "applied" for entry in found)
    if as_json:
        migrations = [
            {"version": entry.version, "name": entry.name, "state": entry.state, "applied_at": _time(entry)}
            for entry in found
        ]
        print_json(database=where, up_to_date=up_to_date, migrations=migrations)
    else:
        _show_status(where, found)
    raise typer.Exit(0 if up_to_date else 1)


@migrate.command("print")
def print_sql(
    first: Annotated[
        int, typer.Option("--from", min=1, metavar="N", help="Begin with migration N: print what is pending.")
    ] = 1,
) -> None:
    """Write the migrations' SQL to standard output, for psql or an SQL editor. Needs no database."""
    migrations = load()
    if first > migrations[-1].version:
        raise ConfigurationError(f"--from {first}: the newest migration is {migrations[-1].version}")
    for migration in migrations:
        if migration.version >= first:
            sys.stdout.write(migration.text)


@contextlib.contextmanager
def _target(database_url: str | None, data_dir: Path | None) -> Iterator[Database]:
    """The database at whatever level it is; the local server is started for it."""
    settings = read_settings(database_url, data_dir)
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        parse(url)
        database = Database(url)
    else:
        server = EmbeddedPostgres(settings.data_dir)
        database = Database(server.start(), server)
    try:
        yield database
    finally:
        database.release()


def _show_status(where: str, found: list[MigrationStatus]) -> None:
    lines = table("MIGRATION", "STATE", "APPLIED")
    now = datetime.now(UTC)
    for entry in found:
        at = _time(entry)
        when = relative(at, now) if isinstance(at, datetime) else at or ""
        lines.add_row(entry.name, Text(entry.state, _STYLES[entry.state]), when)
    states = {entry.state for entry in found}
    show(where, lines, *(advice for state, advice in _ADVICE.items() if state in states))


def _time(entry: MigrationStatus) -> datetime | str | None:
    """The database prints it in ISO 8601 unless its DateStyle says otherwise; then as it is."""
    if entry.applied_at is None:
        return None
    try:
        return datetime.fromisoformat(entry.applied_at)
    except ValueError:
        return entry.applied_at
