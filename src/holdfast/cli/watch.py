"""`holdfast watch`: tables of your own, whose stuck jobs are found: propose, examine, look, and see how they are."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from holdfast.app import new_id
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_database, open_ledger, read_settings
from holdfast.cli.output import clean, print_json, show, table
from holdfast.cli.service import require_sqs
from holdfast.config import Settings
from holdfast.core import telling
from holdfast.core.discovery import Candidate, as_toml, propose
from holdfast.core.incident import Pace
from holdfast.core.watch import StaleRow, Watch
from holdfast.errors import ConfigurationError
from holdfast.events import Sinks
from holdfast.notify.log import LogChannel
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.watches import Problem, discover_tables, examine_watch, list_watches
from holdfast.services.watcher import MOST, Looked, Watcher

watch = typer.Typer(help="Tables of your own: find the stuck jobs in them.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Watches, by their names; by default all of them.")
]


@watch.command()
def discover(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Propose entries for the tables of this database that look like jobs. Nothing is changed."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(discover_tables())
    proposals = propose(
        [Candidate(each.schema, each.table, each.rows, each.id, each.status, each.values, each.times)
         for each in found]
    )  # fmt: skip
    if as_json:
        print_json(watches=[{"entry": each.entry, "doubts": each.doubts, "score": each.score} for each in proposals])
    elif proposals:
        show(Text("\n\n".join(clean(as_toml(each)) for each in proposals)))
    else:
        show("no table of this database looks like jobs: one has a column status, with values such as running")


@watch.command("list")
def list_all(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The tables that are watched: what is stuck, what was rescued, and what is wrong."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(list_watches())
    if as_json:
        print_json(watches=found)
        return
    if not found:
        show("no table was looked at yet ([[watch]] in holdfast.toml; workers look, or: holdfast monitor stale)")
        return
    page = table("WATCH", "TABLE", "ACTION", "LOOKED AT", "STUCK", "RESCUED", "GIVEN UP", "UNSENT", "")
    page.columns[-1].no_wrap = False
    for row in found:
        looked = "never" if row.looked_ago is None else f"{telling.span(row.looked_ago.total_seconds())} ago"
        counts = [f"{each:,}" for each in (row.stale, row.rescued, row.given_up, row.unsent)]
        facts = [row.problem or ""] if row.problem else [f"slow: {row.advice}"] if row.advice else []
        cells = (row.name, row.table, row.action, looked, *counts, "; ".join(facts))
        page.add_row(*(Text(clean(cell)) for cell in cells))
    show(page)


@watch.command()
def check(
    *, names: Names = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Examine the entries of holdfast.toml: columns, types, rights, indexes; each with the statement that mends it."""
    settings = read_settings(database_url, data_dir)
    watches = _chosen(settings, names)
    with open_ledger(database_url, data_dir) as ledger:
        found = {each.name: ledger.call(examine_watch(each)) for each in watches}
    is_bad = any(each.level == "error" for problems in found.values() for each in problems)
    if as_json:
        print_json(watches=[{"name": name, "problems": problems} for name, problems in found.items()])
    else:
        for name, problems in found.items():
            show(*_lines(name, problems))
    raise typer.Exit(1 if is_bad else 0)


@watch.command()
def forget(name: str, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """A table was taken out of the settings: nobody misses looks at it, and what is open about it is over."""
    settings = read_settings(database_url, data_dir)
    if name in {each.name for each in settings.watch}:
        raise ConfigurationError(f"{name!r} is still watched; take its [[watch]] out of holdfast.toml first")
    database = open_database(settings)
    try:
        known = asyncio.run(_forget(database.dsn, name))
    finally:
        database.release()
    if not known:
        raise ConfigurationError(f"no table is watched as {name!r}; see: holdfast watch list")
    show(f"{clean(name)} is forgotten")


@watch.command()
def sweep(
    *,
    names: Names = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Look once, now: take stuck rows back and send their messages; workers do this by themselves."""
    settings = read_settings(database_url, data_dir)
    watches = _chosen(settings, names)
    require_sqs(settings)
    database = open_database(settings)
    try:
        looks = asyncio.run(_sweep(database.dsn, watches, settings.sweep_interval, dry=dry_run))
    finally:
        database.release()
    failed = any(isinstance(each, str) or each.refused for each in looks.values())
    if as_json:
        print_json(dry_run=dry_run, watches=[_as_json(name, looked) for name, looked in looks.items()])
    else:
        for each in watches:
            _show(each, looks[each.name], dry=dry_run)
    raise typer.Exit(1 if failed else 0)


async def _forget(dsn: str, name: str) -> bool:
    ledger = AsyncLedger(dsn, name="holdfast watch")
    try:
        at_once = Pace(clean_looks=1, calm=0.0, longest_calm=0.0)
        watcher = Watcher(ledger, [], [LogChannel.name], Sinks([]), interval=0.0, new_id=new_id, pace=at_once)
        return await watcher.forget(name)
    finally:
        await ledger.close()


async def _sweep(dsn: str, watches: list[Watch], interval: float, *, dry: bool) -> dict[str, Looked | str]:
    ledger = AsyncLedger(dsn, name="holdfast watch")
    watcher = Watcher(ledger, watches, [LogChannel.name], Sinks([]), interval=interval, new_id=new_id)
    try:
        if not dry:
            return await watcher.step(everything=True)
        return {each.name: await watcher.look(each, dry=True) for each in watches}
    finally:
        await watcher.sender.close()
        await ledger.close()


def _chosen(settings: Settings, names: list[str] | None) -> list[Watch]:
    known = {each.name: each for each in settings.watch}
    if not known:
        raise ConfigurationError("holdfast.toml has no [[watch]]; see: holdfast watch discover")
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ConfigurationError(f"no [[watch]] is called {unknown[0]!r}; there is {', '.join(known)}")
    return [known[name] for name in names or known]


def _lines(name: str, problems: list[Problem]) -> list[Text]:
    styles = {"error": "red", "warn": "yellow", "note": "dim"}
    verdict = max((each.level for each in problems), key=["note", "warn", "error"].index, default="ok")
    lines = [Text.assemble((f"{verdict:<6}", styles.get(verdict, "green")), clean(name))]
    for each in problems:
        lines += [Text(f"       {clean(each.problem)}"), Text(f"         {clean(each.advice)}", "dim")]
    return lines


def _show(watch: Watch, looked: Looked | str, *, dry: bool) -> None:
    if isinstance(looked, str):
        show(Text(f"{clean(watch.name)}: cannot be looked at: {clean(looked)}", "red"))
        return
    does = "would become" if dry else "became"
    found = telling.many(len(looked.rows), "stuck row") + (" or more" if len(looked.rows) == MOST else "")
    show(f"{clean(watch.name)}: {found}" + (", left alone" if watch.action == "alert" else ""))
    if watch.action == "alert":
        _show_rows(looked.rows)
    for each in looked.rescues[:20]:
        sent = f", and a message {'would go' if dry else 'goes'} out: " if each.entry else ""
        body = "" if each.entry is None else str(each.entry["MessageBody"])[:200]
        show(Text(clean(f"  {_shown(each.row)} {does} {each.to_status}{sent}{body}")))
    if len(looked.rescues) > 20:
        show(f"  and {len(looked.rescues) - 20:,} more")
    if looked.problem:
        show(Text(f"  {clean(looked.problem)}", "red"))
    if looked.advice:
        show(Text(f"  slow; faster with: {clean(looked.advice)}", "yellow"))


def _show_rows(rows: Sequence[StaleRow]) -> None:
    for each in rows[:20]:
        show(Text(clean(f"  {_shown(each)}")))
    if len(rows) > 20:
        show(f"  and {len(rows) - 20:,} more")


def _shown(row: StaleRow) -> str:
    silent = "" if row.silent_since is None else f", silent since {row.silent_since:%Y-%m-%d %H:%M:%S %Z}"
    return f"{row.row_id} ({row.status}{silent})"


def _as_json(name: str, looked: Looked | str) -> dict[str, object]:
    if isinstance(looked, str):
        return {"name": name, "problem": looked}
    rows = [
        {"id": each.row.row_id, "from": each.row.status, "to": each.to_status, "given_up": each.is_final,
         "message": None if each.entry is None else each.entry["MessageBody"]}
        for each in looked.rescues
    ]  # fmt: skip
    kept = {each.row.row_id for each in looked.rescues}
    left = [
        {"id": each.row_id, "from": each.status, "to": None, "given_up": False, "message": None}
        for each in looked.rows
        if each.row_id not in kept
    ]
    return {
        "name": name,
        "stale": looked.stale,
        "rows": rows + left,
        "problem": looked.problem,
        "advice": looked.advice,
    }
