"""`holdfast dlq`: dead letters, jobs and messages alike: look at them, send them again, discard them."""

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli import moving, redrive
from holdfast.cli.filters import seconds
from holdfast.cli.letter_choice import Cause, Group, Ids, Kind, Newer, Older, Queue, Source, source_named
from holdfast.cli.letter_views import facts_of, show_groups, show_letters, show_lives, show_queues
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, pairs, print_json, show
from holdfast.errors import ConfigurationError
from holdfast.postgres import reads
from holdfast.postgres.dead_letters import list_dead_letter_queues
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.redrives import (
    LetterFilter,
    LetterLine,
    LetterPage,
    letter_groups,
    letter_history,
    list_letters,
    show_letter,
)

#: `watch`: letters of one look; seconds for which a letter may be found before it can be read.
MOST, LATE = 100_000, 60.0

dlq = typer.Typer(help="Dead letters, jobs and messages: look, send again, discard.", no_args_is_help=True)


@dlq.command("list")
def list_all(
    *,
    ids: Ids = None,
    group: Group = None,
    queue: Queue = None,
    kind: Kind = None,
    cause: Cause = None,
    source: Source = None,
    newer: Newer = None,
    older: Older = None,
    gone: Annotated[bool, typer.Option("--gone", help="Also those that are there no longer.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Dead letters, the newest first."""
    wanted = LetterFilter(ids or None, group, queue, source_named(source), kind, cause, newer, older, gone)
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(list_letters(wanted, limit))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(letters=found)
        return
    if not found:
        show("there are no such dead letters")
        return
    show_letters(found, now)


@dlq.command()
def groups(
    *,
    queue: Queue = None,
    kind: Kind = None,
    source: Source = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Dead letters by cause, the most first."""
    wanted = LetterFilter(queue=queue, kind=kind, source=source_named(source))
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(letter_groups(wanted))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(groups=found)
    elif found:
        show_groups(found, now)
    else:
        show("there are no dead letters")


@dlq.command()
def queues(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """The dead-letter queues of SQS that are looked at: how many letters, blind since when, time to loss."""
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(list_dead_letter_queues())
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(queues=found)
        return
    if not found:
        show("no dead-letter queue of SQS was looked at yet (HOLDFAST_DLQ_URLS, SQS_QUEUE_URL; holdfast monitor dlq)")
        return
    show_queues(found, now)


@dlq.command("show")
def show_one(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A letter or a job, by its id or its beginning or end.")],
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """One dead letter, whole, with its true error and its earlier lives. What a body says is shown here alone."""
    with open_ledger(database_url, data_dir) as ledger:
        letter = _find(ledger, wanted)
        lives = ledger.call(letter_history(letter.id))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(letter=letter, lives=lives)
        return
    show(pairs([(name, Text(clean(value))) for name, value in facts_of(letter, now) if value]))
    if letter.body:
        show("", Text(clean(letter.body)))
    show_lives(lives, now)


for command in (redrive.redrive, redrive.redrives, redrive.pause, redrive.resume, redrive.cancel, redrive.discard):
    dlq.command()(command)
dlq.command()(moving.move)


@dlq.command()
def watch(
    every: Annotated[
        float | None, typer.Option(parser=seconds, metavar="SPAN", help="How often to look; 5s by default.")
    ] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print dead letters as they are found, until interrupted; with --json one object a line."""
    with open_ledger(database_url, data_dir) as ledger:
        looked_at = ledger.one(reads.ping()).clock
        seen = {letter.id for letter in _found_since(ledger, looked_at, looked_at)}
        if not as_json:
            there = sum(group.letters for group in ledger.call(letter_groups(LetterFilter())))
            show(f"{there:,} dead letters are there; waiting for more, Ctrl-C ends it")
        while True:
            time.sleep(max(5.0 if every is None else every, 0.2))
            now = ledger.one(reads.ping()).clock
            found = _found_since(ledger, looked_at, now)
            for letter in reversed(found):
                if letter.id not in seen:
                    _tell(letter.id, letter.first_seen_at, letter.kind, letter.cause, letter.queue, as_json=as_json)
            if len(found) == MOST:
                print(f"more than {MOST:,} were found at once; all of them: holdfast dlq groups", file=sys.stderr)
            seen, looked_at = {letter.id for letter in found}, now


def _found_since(ledger: SyncLedger, since: datetime, now: datetime) -> Sequence[LetterLine]:
    """Those of earlier looks too, within `LATE`: what was found before may be committed after."""
    return ledger.call(list_letters(LetterFilter(newer=max((now - since).total_seconds(), 0.0) + LATE), MOST))


def _tell(*facts: object, as_json: bool) -> None:
    id, at, kind, cause, queue = facts
    if as_json:
        print(json.dumps({"id": str(id), "at": str(at), "kind": kind, "cause": cause, "queue": queue}), flush=True)
        return
    line = f"{at:%H:%M:%S}  {str(id)[-8:]}  {kind or '?'} ({cause or 'cause not known'}) in {queue}"
    print(clean(line), flush=True)


def _find(ledger: SyncLedger, wanted: str) -> LetterPage:
    found = ledger.call(show_letter(wanted))
    if not found:
        raise ConfigurationError(f"no dead letter, and no job of one, has an id that begins or ends with {wanted!r}")
    if len(found) > 1 and found[0].job_id not in (wanted, found[1].job_id):
        raise ConfigurationError(f"several dead letters have ids that begin or end so, {wanted!r}; give more of it")
    return found[0]
