"""`holdfast queues`: what is in them, and pausing them."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.completing import queue_names
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, print_json, relative, show, table
from holdfast.cli.queue_setup import adopt_queue, create_queue
from holdfast.core.payload import is_storable
from holdfast.postgres import reads

queues = typer.Typer(help="Look at queues, pause and resume them; make queues of SQS for bells.", no_args_is_help=True)

Names = Annotated[
    list[str],
    typer.Argument(metavar="QUEUE", show_default=False, help="Queues' names.", autocompletion=queue_names),
]


@queues.command("list")
def list_queues(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Queues that hold jobs, that workers serve, or that were paused. Counting ends at 10,000 of each."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(reads.list_queues())
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(queues=found)
        return
    if not found:
        show("no queues yet")
        return
    page = table("QUEUE", "DUE", "LATER", "RUNNING", "WORKERS", "STATUS")
    for column in page.columns[1:5]:
        column.justify = "right"
    for row in found:
        counts = (_count(row, row.due), _count(row, row.later), f"{row.running:,}", str(row.workers))
        page.add_row(Text(clean(row.name)), *counts, describe(row, now))
    show(page)


@queues.command()
def pause(names: Names, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Start no more jobs of these queues. Jobs that run go on, and jobs can be enqueued."""
    _set(names, database_url=database_url, data_dir=data_dir, as_json=as_json, paused=True)


@queues.command()
def resume(names: Names, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Start jobs of these queues again."""
    _set(names, database_url=database_url, data_dir=data_dir, as_json=as_json, paused=False)


queues.command("create")(create_queue)
queues.command("adopt")(adopt_queue)


def _set(names: list[str], *, database_url: str | None, data_dir: Path | None, as_json: bool, paused: bool) -> None:
    bad = [name for name in names if not 1 <= len(name) <= 200 or not is_storable(name)]
    if bad:
        raise typer.BadParameter(f"{bad[0][:60]!r} cannot be a queue's name, which has 1 to 200 characters")
    with open_ledger(database_url, data_dir) as ledger:
        changed = ledger.call(reads.pause_queues(names, paused=paused))
    if as_json:
        print_json(queues=[{"name": name, "paused": paused} for name in sorted(changed)])
        return
    for name in sorted(changed):
        show(Text.assemble(f"{clean(name)}  ", ("paused", "yellow") if paused else ("resumed", "green")))


def _count(row: reads.QueueRow, count: int) -> str:
    return f"{count:,}" + "+" * (row.is_more and count > 0)


def describe(row: reads.QueueRow, now: datetime) -> Text:
    """What there is to know about a queue, in a few words."""
    if row.paused:
        return Text("paused", "yellow")
    if row.due and not row.workers:
        return Text("no worker serves it", "red")
    if row.oldest_due is not None and (now - row.oldest_due).total_seconds() >= 1:
        return Text(f"oldest due {relative(row.oldest_due, now)}")
    return Text("")
