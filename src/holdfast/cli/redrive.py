"""`holdfast dlq redrive` and its kin: dead letters are sent on their way again, or discarded."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.app import new_id
from holdfast.cli.filters import seconds
from holdfast.cli.incidents import whoever
from holdfast.cli.letter_choice import (
    By,
    Cause,
    Everything,
    Group,
    Ids,
    Kind,
    Newer,
    Older,
    Queue,
    Source,
    Yes,
    ask,
    preview,
    require_one,
    source_named,
)
from holdfast.cli.letter_views import how_many, left_out
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import print_json, show
from holdfast.cli.redriving import follow, open_redrive, show_redrives
from holdfast.errors import ConfigurationError
from holdfast.postgres import reads
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.redrives import (
    LetterFilter,
    RedriveLine,
    RedriveOptions,
    change_redrive,
    discard_dead_letters,
    letter_groups,
    list_redrives,
    redrive_dead_letters,
)

Quarantine = Annotated[
    int, typer.Option("--quarantine-after", min=1, metavar="N", help="Leave out what came back so often; ids are not.")
]
RedriveId = Annotated[str, typer.Argument(metavar="ID", help="The redrive's id, or its beginning or end.")]


def redrive(
    *,
    ids: Ids = None,
    group: Group = None,
    queue: Queue = None,
    kind: Kind = None,
    cause: Cause = None,
    source: Source = None,
    newer: Newer = None,
    older: Older = None,
    everything: Everything = False,
    to: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="Send messages there, not back to where each came from.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be sent.")] = False,
    canary: Annotated[
        int, typer.Option(min=0, metavar="N", help="Send N first, and go on only if none of them comes back.")
    ] = 0,
    canary_wait: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="SPAN", help="How long their outcomes are waited for; 5min by default."),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, metavar="N", help="Send N a second at most.")] = None,
    quarantine_after: Quarantine = 3,
    note: Annotated[str | None, typer.Option(help="Why; kept with it.")] = None,
    by: By = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Do it here, or leave it to the monitors.")] = True,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters on their way again: jobs get another life, messages go back to their queue.

    What is there now is sent, and nothing that arrives meanwhile. It stops when letters come back with the cause that
    they had. A message may be sent twice where a process dies in the middle: a program that is not ours must bear that.
    """
    wanted = LetterFilter(ids or None, group, queue, source_named(source), kind, cause, newer, older)
    require_one(wanted, everything=everything, what="redrive")
    options = RedriveOptions(
        by or whoever(), note, to, canary, 300.0 if canary_wait is None else canary_wait, rate, quarantine_after
    )
    with open_redrive(database_url, data_dir) as (settings, ledger):
        found = ledger.call(letter_groups(wanted, quarantine_after))
        preview(ledger, found, "to redrive", as_json=as_json, dry_run=dry_run)
        if dry_run or not found:
            return
        ask("redrive", found, yes=yes, as_json=as_json)
        id = new_id()
        frozen = ledger.one(redrive_dead_letters(id, wanted, options))
        if not as_json:
            show(f"redrive {str(id)[-8:]}: {frozen.total:,} letters{left_out(frozen.quarantined, frozen.busy)}")
        code = follow(settings, ledger, id, as_json=as_json) if wait and frozen.total else 0
        if not wait and as_json:
            print_json(id=id, **{name: getattr(frozen, name) for name in ("total", "quarantined", "busy")})
    raise typer.Exit(code)


def redrives(
    wanted: Annotated[str | None, typer.Argument(metavar="[ID]", help="One of them.")] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Redrives and how far they are, the newest first."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(list_redrives(wanted))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(redrives=found)
    else:
        show_redrives(found, now)


def pause(id: RedriveId, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Pause a redrive."""
    _change(id, "pause", (database_url, data_dir), as_json=as_json)


def cancel(id: RedriveId, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """End a redrive: what was not sent stays a dead letter."""
    _change(id, "cancel", (database_url, data_dir), as_json=as_json)


def resume(
    id: RedriveId,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Do it here, or leave it to the monitors.")] = True,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a redrive: with one that is paused, or whose process was killed."""
    with open_redrive(database_url, data_dir) as (settings, ledger):
        found = _redrive(ledger, id)
        ledger.one(change_redrive(found.id, "resume", f"resumed by {whoever()}"))
        code = follow(settings, ledger, found.id, as_json=as_json) if wait else 0
    raise typer.Exit(code)


def discard(
    *,
    ids: Ids = None,
    group: Group = None,
    queue: Queue = None,
    kind: Kind = None,
    cause: Cause = None,
    source: Source = None,
    newer: Newer = None,
    older: Older = None,
    everything: Everything = False,
    reason: Annotated[str, typer.Option(help="Why; kept with them.")],
    by: By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be discarded.")] = False,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Decide that dead letters need no more doing. They are kept, with who said so and why; nothing leaves SQS."""
    wanted = LetterFilter(ids or None, group, queue, source_named(source), kind, cause, newer, older)
    require_one(wanted, everything=everything, what="discard")
    if not reason.strip():
        raise ConfigurationError("--reason is empty: say why, it is kept with them")
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(letter_groups(wanted))
        preview(ledger, found, "to discard", as_json=as_json, dry_run=dry_run)
        if dry_run or not found:
            return
        ask("discard", found, yes=yes, as_json=as_json)
        count = ledger.one(discard_dead_letters(wanted, by or whoever(), reason))
    if as_json:
        print_json(discarded=count)
    else:
        show(Text(f"discarded {how_many(count)}", "green"))


def _redrive(ledger: SyncLedger, wanted: str) -> RedriveLine:
    found = ledger.call(list_redrives(wanted.lower(), 2))
    if len(found) != 1:
        many = "several redrives have ids that begin" if found else "no redrive has an id that begins"
        raise ConfigurationError(f"{many} with {wanted!r}; see: holdfast dlq redrives")
    return found[0]


def _change(id: str, action: str, options: tuple[str | None, Path | None], *, as_json: bool) -> None:
    with open_ledger(*options) as ledger:
        found = _redrive(ledger, id)
        status = ledger.one(change_redrive(found.id, action, f"by {whoever()}"))
    if as_json:
        print_json(id=found.id, status=status)
    else:
        show(f"redrive {str(found.id)[-8:]} is {status}")
