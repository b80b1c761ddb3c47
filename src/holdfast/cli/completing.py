"""What a shell may complete: names that the ledger knows, where it answers at once."""

import typer

from holdfast.cli.options import read_settings
from holdfast.errors import HoldfastError
from holdfast.postgres import reads
from holdfast.postgres.ledger import SyncLedger

#: Seconds that somebody waits who has pressed the tab key.
PATIENCE = 1.0


def queue_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Queues that begin so."""
    return _names(ctx, 0, incomplete)


def kind_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Kinds of job that begin so."""
    return _names(ctx, 1, incomplete)


def _names(ctx: typer.Context, place: int, incomplete: str) -> list[str]:
    try:
        url = read_settings(ctx.params.get("database_url"), None).database_url
        if url is None:
            return []  # the local server is not started for this
        ledger = SyncLedger(url.get_secret_value(), name="holdfast completion", deadline=PATIENCE)
        try:
            found = {name for row in ledger.call(reads.list_names()) for name in row[place]}
        finally:
            ledger.close()
    except (HoldfastError, OSError):
        return []
    return sorted(name for name in found if name.startswith(incomplete))
