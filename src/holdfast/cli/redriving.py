"""Following a redrive from the command line: doing its steps here, unless a monitor does them already."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from holdfast.app import new_id
from holdfast.cli.options import dlq_sources, open_database, read_settings
from holdfast.cli.output import clean, print_json, relative, show, table
from holdfast.config import Settings
from holdfast.core import telling
from holdfast.core.redrive import LOOK, WATCH
from holdfast.events import Sinks
from holdfast.postgres.ledger import AsyncLedger, SyncLedger
from holdfast.postgres.redrives import RedriveLine, list_redrives
from holdfast.services.redriver import Redriver

_ENDS = ("done", "cancelled", "stopped", "paused")
_PATIENCE = f", for {telling.span(WATCH)} at most; with Ctrl-C the monitors do so"


@contextlib.contextmanager
def open_redrive(database_url: str | None, data_dir: Path | None) -> Iterator[tuple[Settings, SyncLedger]]:
    """The settings and the ledger for a command that sends."""
    settings = read_settings(database_url, data_dir)
    database = open_database(settings)
    ledger = SyncLedger(database.dsn, name="holdfast cli")
    try:
        yield settings, ledger
    finally:
        ledger.close()
        database.release()


def follow(settings: Settings, ledger: SyncLedger, id: UUID, *, as_json: bool) -> int:
    """Until it has ended or is paused; the exit code."""
    try:
        asyncio.run(_follow(settings, ledger, id, says=not as_json))
    except KeyboardInterrupt:
        print(
            f"\ninterrupted; the monitors go on with it, or: holdfast dlq resume {str(id)[-8:]};"
            f" to end it: holdfast dlq cancel {str(id)[-8:]}",
            file=sys.stderr,
        )
        raise
    (found,) = ledger.call(list_redrives(str(id)))
    if as_json:
        print_json(redrive=found)
    else:
        show(Text(f"{found.status}: {clean(found.reason)}", "green" if found.status == "done" else "yellow"))
        if found.status == "paused":
            show(f"go on with: holdfast dlq resume {str(id)[-8:]}")
    return 0 if found.status == "done" and not found.failed else 1


async def _follow(settings: Settings, ledger: SyncLedger, id: UUID, *, says: bool) -> None:
    executor = AsyncLedger(ledger.dsn, name="holdfast cli redrive")
    redriver = Redriver(executor, dlq_sources(settings), Sinks(), owner=new_id(), new_id=new_id, one=id)
    try:
        said = ""
        with _bar() as (progress, task):
            while True:
                pause = await redriver.step()
                (found,) = await executor.call(list_redrives(str(id)))
                if progress is not None and task is not None:
                    progress.update(task, completed=found.total - found.waiting, total=found.total)
                if found.status in _ENDS:
                    return
                if says and found.reason != said:
                    said = found.reason
                    show(Text(f"{clean(said)}{_PATIENCE if found.status == 'watching' else ''}"))
                await asyncio.sleep(LOOK if pause is None else pause)
    finally:
        await redriver.close()
        await executor.close()


@contextlib.contextmanager
def _bar() -> Iterator[tuple[Progress | None, TaskID | None]]:
    """A bar on a terminal's standard error, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None, None
        return
    columns = (TextColumn("redrive"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress, progress.add_task("redrive", total=None)


def show_redrives(found: Sequence[RedriveLine], now: datetime) -> None:
    """As a table."""
    if not found:
        show("there is no such redrive")
        return
    page = table("ID", "STATUS", "BEGUN", "BY", "LETTERS", "WAITING", "SENT", "SUCCEEDED", "CAME BACK", "WHY")
    page.columns[-1].no_wrap = False
    for row in found:
        sent = row.sent + row.succeeded + row.returned
        counts = (row.total, row.waiting + row.remaining, sent, row.succeeded, row.returned)
        page.add_row(
            str(row.id)[-8:], row.status, relative(row.created_at, now), Text(clean(row.requested_by)),
            *(f"{count:,}" for count in counts), Text(clean(row.reason)),
        )  # fmt: skip
    show(page)
