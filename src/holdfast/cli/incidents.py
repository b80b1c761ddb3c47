"""`holdfast incidents`: what is wrong now, by cause, and for how long."""

import typer
from rich.text import Text

from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, print_json, show, table
from holdfast.core import telling
from holdfast.postgres.dead_letters import open_incidents

incidents = typer.Typer(help="Look at what is wrong now.", no_args_is_help=True)


@incidents.callback()
def _group() -> None:
    """Keeps `list` a command of its own, although it is the only one."""


@incidents.command("list")
def list_incidents(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The open incidents, the oldest first; 1,000 at most."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(open_incidents(telling.KINDS))
    if as_json:
        print_json(incidents=found)
        return
    if not found:
        show("no incident is open")
        return
    page = table("OPEN FOR", "KIND", "ARRIVED", "WHAT")
    page.columns[-1].no_wrap = False
    for row in found:
        page.add_row(telling.span(row.open_for), row.kind, f"{row.arrivals:,}", Text(clean(row.title)))
    show(page)
