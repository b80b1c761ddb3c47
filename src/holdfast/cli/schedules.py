"""`holdfast schedules`: periodic jobs, when they tick, and whether they do."""

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, print_json, relative, show, table
from holdfast.core.schedule import next_tick
from holdfast.errors import HoldfastError
from holdfast.postgres import reads

schedules = typer.Typer(help="Look at periodic jobs, pause and resume them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The schedule's name.")]


@schedules.command("list")
def list_schedules(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Schedules, when each ticks next, and how the last tick went."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(reads.list_schedules())
    if as_json:
        print_json(schedules=found)
        return
    if not found:
        show("no schedules; a worker writes those of its program: @hf.periodic")
        return
    page = table("NAME", "CRON", "TIME ZONE", "KIND", "LAST", "NEXT")
    page.columns[-1].no_wrap = False
    for row in found:
        cells = (row.name, row.cron, row.time_zone, row.kind)
        page.add_row(
            *(Text(clean(cell)) for cell in cells), describe_last(row, row.clock), describe_next(row, row.clock)
        )
    show(page)


@schedules.command(epilog="Exit code 1 when there is none of that name.")
def pause(name: Name, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let a schedule tick no more until it is resumed. Jobs that it has enqueued stay."""
    with open_ledger(database_url, data_dir) as ledger:
        _one(name, ledger.call(reads.pause_schedule(name, paused=True)))
    _answer(as_json, name, "paused")


@schedules.command(epilog="Exit code 1 when there is none of that name.")
def resume(name: Name, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let a paused schedule go on with its next tick; what it missed stays missed."""
    with open_ledger(database_url, data_dir) as ledger:
        row = next((each for each in ledger.call(reads.list_schedules()) if each.name == name), None)
        _one(name, [] if row is None else [name])
        assert row is not None
        next_at = next_tick(row.cron, row.time_zone, row.clock) if row.paused else None
        _one(name, ledger.call(reads.pause_schedule(name, paused=False, next_at=next_at)))
    _answer(as_json, name, "resumed")


@schedules.command(epilog="Exit code 1 when there is none of that name.")
def remove(name: Name, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Forget a schedule that no program declares any more. One that is declared comes back by itself."""
    with open_ledger(database_url, data_dir) as ledger:
        _one(name, ledger.call(reads.remove_schedule(name)))
    _answer(as_json, name, "removed")


def _one(name: str, found: list[str]) -> None:
    if not found:
        raise HoldfastError(f"there is no schedule {name!r}; see: holdfast schedules list")


def _answer(as_json: bool, name: str, what: str) -> None:
    if as_json:
        print_json(schedule=name, done=what)
    else:
        show(Text.assemble(f"{clean(name)}  ", (what, "green")))


def describe_last(row: reads.ScheduleRow, now: datetime) -> Text:
    """When it ticked last, and what came of it."""
    if row.last_at is None:
        return Text("never", "dim")
    if row.last_result == "overlapped":
        return Text(f"{relative(row.last_at, now)}: the job before was not done", "yellow")
    return Text(relative(row.last_at, now))


def describe_next(row: reads.ScheduleRow, now: datetime) -> Text:
    """When it ticks next, or why it does not."""
    if row.paused:
        return Text("paused", "yellow")
    if not row.is_declared:
        return Text(f"does not tick: no worker has declared it since {relative(row.declared_at, now)}", "red")
    return Text(relative(row.next_at, now), "green")
