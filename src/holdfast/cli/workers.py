"""`holdfast workers`: which worker processes there are, and how they are."""

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, print_json, relative, show, table
from holdfast.postgres import reads

workers = typer.Typer(help="Look at the worker processes.", no_args_is_help=True)


@workers.command("list")
def list_workers(
    *,
    gone: Annotated[bool, typer.Option("--gone", help="Also those that are gone, the last ones first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Worker processes of all hosts."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(reads.list_workers(gone=gone, limit=limit))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(workers=found)
        return
    if not found:
        show("no worker runs; start one with: holdfast worker APP (or holdfast up APP)")
        return
    page = table("ID", "HOST", "PID", "QUEUES", "JOBS", "STARTED", "STATUS")
    for row in found:
        page.add_row(
            str(row.id),
            clean(row.host),
            str(row.pid),
            clean(", ".join(row.queues)),
            f"{row.running}/{row.slots}",
            relative(row.started_at, now),
            describe(row, now),
        )
    show(page)


def describe(row: reads.WorkerRow, now: datetime) -> Text:
    """How a worker is, in words."""
    if row.gone_at is not None:
        crash = ", which counts as a crash" if row.gone_is_crash else ""
        return Text(f"gone {relative(row.gone_at, now)}: {row.gone_reason}{crash}", "dim")
    silent = (now - row.seen_at).total_seconds()
    if silent > row.lost_after.total_seconds():
        return Text(f"silent for {silent:.0f} s; about to be declared gone", "red")
    lag = row.loop_lag.total_seconds() if row.loop_lag else 0.0
    notes = [
        "draining" if row.draining else "",
        "quarantine" if row.quarantine else "",
        f"event loop lags {lag:.1f} s" if lag >= 1 else "",
    ]
    words = ", ".join(note for note in notes if note) or "live"
    return Text(f"{words}, beat {relative(row.seen_at, now)}", "yellow" if lag >= 1 or row.draining else "green")
