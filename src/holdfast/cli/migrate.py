"""`holdfast migrate`: bring the schema to this Holdfast's level, see where it stands, or take the SQL elsewhere."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.exporting import FOLDERS, Format, how_to_run
from holdfast.cli.exporting import export as export_files
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, read_settings
from holdfast.cli.output import first_line, print_json, relative, show, table
from holdfast.cli.pasting import Pasting
from holdfast.cli.reaching import Way, only_shown, reached, saying, target_of
from holdfast.core.sql_text import statements
from holdfast.errors import ConfigurationError, MigrationError, SchemaMismatch
from holdfast.postgres.migrate import (
    Migration,
    MigrationStatus,
    apply_pending,
    body,
    load,
    load_optional,
    read_status,
    refuse,
    refuse_behind,
    understood,
)
from holdfast.postgres.routes import Route, StatementError
from holdfast.postgres.schema import CATALOG, Difference, SchemaObject, differences, expected, objects_of
from holdfast.postgres.way_back import way_back, way_to_look
from holdfast.services.migrator import Via

_STYLES = {"applied": "green", "pending": "yellow", "edited": "red", "unknown": "red"}
_ADVICE = {
    "pending": "to apply what is pending: holdfast migrate up",
    "edited": "an edited migration was applied with other contents: use the Holdfast version that applied it",
    "unknown": "an unknown migration came from a newer Holdfast: upgrade this one",
}

migrate = typer.Typer(help="Bring the database's schema to this Holdfast's level.", no_args_is_help=True)


@migrate.command()
def up(
    *,
    via: Way = Via.AUTO,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show each pending statement; apply nothing.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a file that is pasted by hand.")] = 900.0,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Apply what is pending, each migration in its own transaction.

    It takes the first way that gets through: DATABASE_URL; for a Supabase project its session pooler, then the
    Management API (HTTPS alone, with SUPABASE_ACCESS_TOKEN); at last by hand, with the SQL editor.
    """
    settings = read_settings(database_url, data_dir)
    with reached(settings, via, as_json=as_json, wait=wait, dry_run=dry_run) as (route, statuses, where, tried):
        applied = []
        if route.name == Via.HTTPS and any(status.state == "pending" for status in statuses):
            refuse(statuses)
            if dry_run or as_json or not sys.stdout.isatty():
                raise only_shown(settings, where)
            Pasting(target_of(settings), wait).run()
            return
        if dry_run:
            refuse(statuses)
            pending = {status.version for status in statuses if status.state == "pending"}
            _show_statements([each for each in load() if each.version in pending], where, as_json=as_json)
            return
        for migration in apply_pending(route, statuses, waits=saying(as_json=as_json)):
            applied.append(migration)
            if not as_json:
                show(Text.assemble(("applied ", "green"), migration.name))
        _refuse_incomplete(route, applied)
    newest = load()[-1]
    if as_json:
        found = [{"version": migration.version, "name": migration.name} for migration in applied]
        print_json(database=where, via=route.name, tried=tried, applied=found, version=newest.version)
    elif applied:
        show(f"{where} is now at version {newest.version}")
    else:
        show(f"nothing to do: {where} is at version {newest.version}")


def _refuse_incomplete(route: Route, applied: list[Migration]) -> None:
    """Whoever ran the files, the ledger must show them and the objects be there: an answer alone is no proof."""
    statuses = read_status(route)
    missing = [status.name for status in statuses if status.state != "applied"]
    if missing and applied:
        raise MigrationError(
            f"{route.where} said that all went well, and its ledger does not show {', '.join(missing)}; nothing of a"
            " file is kept without its record: run holdfast migrate up again"
        )
    found = differences(_catalog(route), [each.version for each in statuses])
    lacking = [f"{each.kind} {each.name}" for each in found if each.what == "missing"]
    if lacking:
        few = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        raise MigrationError(
            f"every migration is on record in {route.where}, and what they make is not all there: {few} missing;"
            " holdfast migrate verify tells all, and the way out"
        )


def _catalog(route: Route) -> list[SchemaObject]:
    """What is there. The function that tells it may itself be missing, and `up` alone does not make it again."""
    try:
        rows = route.rows(CATALOG)
    except (SchemaMismatch, StatementError) as error:
        raise MigrationError(
            f"{route.where} does not tell what it has ({str(error).rstrip('.')}); where one of its functions is"
            f" missing: run the SQL {way_to_look()}; then: holdfast migrate up"
        ) from error
    with understood(route):
        ((described,),) = (row.values() for row in rows)
        return objects_of(described)


@migrate.command(epilog="Exit code 1 when the database is not at this Holdfast's level.")
def status(
    via: Way = Via.AUTO, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """What is applied, and what is not."""
    settings = read_settings(database_url, data_dir)
    with reached(settings, via, as_json=as_json) as (_, found, where, _):
        pass
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


@migrate.command(
    epilog="Exit code 1 when something is missing or differs; what others added in the schema is told and no failure."
)
def verify(
    via: Way = Via.AUTO, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Compare what the database has, object by object, with what the migrations make."""
    settings = read_settings(database_url, data_dir)
    with reached(settings, via, as_json=as_json) as (route, statuses, where, _):
        refuse_behind(statuses)
        found = _catalog(route)
    differing = differences(found, [status.version for status in statuses])
    wrong = [each for each in differing if each.file is not None]
    if as_json:
        print_json(database=where, matches=not wrong, differences=differing, way_back=way_back(differing))
    else:
        _show_differences(where, differing, len(expected()))
    raise typer.Exit(1 if wrong else 0)


def _show_differences(where: str, differing: list[Difference], objects: int) -> None:
    for each in differing:
        style = "yellow" if each.file is None else "red"
        show(Text.assemble((f"{each.what:<8}", style), f"{each.kind} {each.name}"))
        if each.what == "differs":
            show(f"         has     {first_line(each.found)}", f"         wanted  {first_line(each.wanted)}")
    steps = way_back(differing)
    if steps:
        sql = "; ".join(steps)
        show(f"{where} is not what its migrations make; the way out: run the SQL {sql}; then: holdfast migrate up")
    else:
        show(f"{where} has what its migrations make: {objects} objects compared")


@migrate.command("print")
def print_sql(
    first: Annotated[
        int, typer.Option("--from", min=1, metavar="N", help="Begin with migration N: print what is pending.")
    ] = 1,
    optional: Annotated[
        str | None, typer.Option(metavar="NAME", help="An optional file instead: pg_cron (sweeps inside Postgres).")
    ] = None,
) -> None:
    """Write the migrations' SQL to standard output, for psql or an SQL editor. Needs no database."""
    if optional is not None:
        sys.stdout.write(load_optional(optional))
        return
    migrations = load()
    if first > migrations[-1].version:
        raise ConfigurationError(f"--from {first}: the newest migration is {migrations[-1].version}")
    for migration in migrations:
        if migration.version >= first:
            sys.stdout.write(migration.text)


@migrate.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="Whose files: supabase, psql or alembic.")],
    folder: Annotated[Path | None, typer.Option("--to", help="The folder; by default where that tool looks.")] = None,
) -> None:
    """Write the migrations as another tool's files, those that are not there yet. Needs no database."""
    target = folder or Path(FOLDERS[form])
    try:
        written = export_files(form, load(), target, datetime.now(UTC))
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written: {error.strerror}; choose another folder: --to"
        ) from error
    for path in written:
        show(f"wrote {path}")
    show(how_to_run(form, target) if written else f"nothing to write: {target} has them all")


def _show_statements(pending: list[Migration], where: str, *, as_json: bool) -> None:
    found = [{"migration": each.name, "statements": statements(body(each.text))} for each in pending]
    if as_json:
        print_json(database=where, would_apply=found)
        return
    for each in found:
        show(Text(f"-- {each['migration']}", "bold"))
        for text in each["statements"]:
            sys.stdout.write(f"{text};\n\n")
    show(f"{where}: {len(found)} migrations would be applied; nothing was done")


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
