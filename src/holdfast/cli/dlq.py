"""`holdfast dlq`: dead letters, jobs and messages alike: look at them, send them again, discard them."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.app import new_id
from holdfast.cli.filters import seconds
from holdfast.cli.incidents import whoever
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, first_line, pairs, print_json, relative, show, table
from holdfast.cli.redriving import follow, open_redrive, show_redrives
from holdfast.core import telling
from holdfast.errors import ConfigurationError
from holdfast.postgres import reads
from holdfast.postgres.dead_letters import list_dead_letter_queues
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.redrives import (
    LetterCause,
    LetterFilter,
    LetterPage,
    RedriveLine,
    RedriveOptions,
    change_redrive,
    discard_dead_letters,
    letter_groups,
    letter_history,
    list_letters,
    list_redrives,
    redrive_dead_letters,
    show_letter,
)

dlq = typer.Typer(help="Dead letters, jobs and messages: look, send again, discard.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Letters or jobs, by their ids.")]
Group = Annotated[str | None, typer.Option("--group", metavar="FINGERPRINT", help="Only those of this cause.")]
Queue = Annotated[str | None, typer.Option(help="Only those of this queue, or dead-letter queue.")]
Kind = Annotated[str | None, typer.Option(help="Only those of this kind.")]
Cause = Annotated[str | None, typer.Option(help="Only those with this type of error.")]
Source = Annotated[str | None, typer.Option(help="Only jobs of this ledger (job), or messages of SQS (sqs).")]
Newer = Annotated[
    float | None, typer.Option(parser=seconds, metavar="SPAN", help="Only those found within this span: 15min, 2h.")
]
Older = Annotated[float | None, typer.Option(parser=seconds, metavar="SPAN", help="Only those found longer ago.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
By = Annotated[str | None, typer.Option(help="Who asks; by default whoever you are here.")]
Quarantine = Annotated[
    int, typer.Option("--quarantine-after", min=1, metavar="N", help="Leave out what came back so often; ids are not.")
]
RedriveId = Annotated[str, typer.Argument(metavar="ID", help="The redrive's id, or its beginning or end.")]


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
    wanted = LetterFilter(ids or None, group, queue, _source(source), kind, cause, newer, older, gone)
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(list_letters(wanted, limit))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(letters=found)
        return
    if not found:
        show("there are no such dead letters")
        return
    page = table("ID", "WHAT", "CAUSE", "WHERE", "FOUND", "")
    for row in found:
        facts = [f"job {row.job_id}"] if row.source == "job" else []
        facts += [f"came back {row.returns} times"] if row.returns else []
        facts += [row.outcome or "gone"] if row.gone_at else []
        cells = (str(row.id), row.kind or "?", row.cause or "-", row.queue, relative(row.first_seen_at, now))
        page.add_row(*(Text(clean(cell)) for cell in (*cells, ", ".join(facts))))
    show(page)


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
    wanted = LetterFilter(queue=queue, kind=kind, source=_source(source))
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(letter_groups(wanted))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(groups=found)
    elif found:
        _show_groups(found, now)
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
    page = table("QUEUE", "MODE", "MESSAGES", "LOOKED AT", "LOST", "")
    page.columns[-1].no_wrap = False
    for row in found:
        mode = "capture" if row.captured else "count" if row.only_counted else "observe"
        looked = "never" if row.looked_at is None else relative(row.looked_at, now)
        lost = "-" if row.expires_at is None else relative(row.expires_at, now)
        facts = [f"blind for {span(row.blind_since, now)}: {row.error}"] if row.blind_since else []
        facts += [row.only_counted] if row.only_counted else []
        facts += ["nobody watches it any more"] if row.is_abandoned else []
        count = "?" if row.messages is None else f"{row.messages:,}"
        page.add_row(*(Text(clean(cell)) for cell in (row.name, mode, count, looked, lost, "; ".join(facts))))
    show(page)


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
    show(pairs([(name, Text(clean(value))) for name, value in _facts(letter, now) if value]))
    if letter.body:
        show("", Text(clean(letter.body)))
    tried = [life for life in lives if life.redrive_id is not None and life.at is not None]
    if tried:
        page = table("REDRIVEN", "BY", "OUTCOME", "")
        for life in tried:
            assert life.at is not None
            cells = (relative(life.at, now), life.requested_by or "", life.status or "", life.detail or "")
            page.add_row(*(Text(clean(cell)) for cell in cells))
        show("", page)


@dlq.command()
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
    wanted = LetterFilter(ids or None, group, queue, _source(source), kind, cause, newer, older)
    _require_one(wanted, everything=everything, what="redrive")
    options = RedriveOptions(
        by or whoever(), note, to, canary, 300.0 if canary_wait is None else canary_wait, rate, quarantine_after
    )
    with open_redrive(database_url, data_dir) as (settings, ledger):
        found = ledger.call(letter_groups(wanted, quarantine_after))
        _preview(ledger, found, "to redrive", as_json=as_json, dry_run=dry_run)
        if dry_run or not found:
            return
        _ask("redrive", found, yes=yes, as_json=as_json)
        id = new_id()
        frozen = ledger.one(redrive_dead_letters(id, wanted, options))
        if not as_json:
            show(f"redrive {str(id)[-8:]}: {frozen.total:,} letters{_left_out(frozen.quarantined, frozen.busy)}")
        code = follow(settings, ledger, id, as_json=as_json) if wait and frozen.total else 0
        if not wait and as_json:
            print_json(id=id, **{name: getattr(frozen, name) for name in ("total", "quarantined", "busy")})
    raise typer.Exit(code)


@dlq.command()
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


@dlq.command()
def pause(id: RedriveId, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Pause a redrive."""
    _change(id, "pause", (database_url, data_dir), as_json=as_json)


@dlq.command()
def cancel(id: RedriveId, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """End a redrive: what was not sent stays a dead letter."""
    _change(id, "cancel", (database_url, data_dir), as_json=as_json)


@dlq.command()
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


@dlq.command()
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
    wanted = LetterFilter(ids or None, group, queue, _source(source), kind, cause, newer, older)
    _require_one(wanted, everything=everything, what="discard")
    if not reason.strip():
        raise ConfigurationError("--reason is empty: say why, it is kept with them")
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(letter_groups(wanted))
        _preview(ledger, found, "to discard", as_json=as_json, dry_run=dry_run)
        if dry_run or not found:
            return
        _ask("discard", found, yes=yes, as_json=as_json)
        count = ledger.one(discard_dead_letters(wanted, by or whoever(), reason))
    if as_json:
        print_json(discarded=count)
    else:
        show(Text(f"discarded {_letters(count)}", "green"))


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
        seen = {letter.id for letter in ledger.call(list_letters(LetterFilter(), 1000))}
        if not as_json:
            show(f"{len(seen):,} dead letters are there; waiting for more, Ctrl-C ends it")
        while True:
            time.sleep(max(5.0 if every is None else every, 0.2))
            for letter in reversed(ledger.call(list_letters(LetterFilter(), 1000))):
                if letter.id not in seen:
                    seen.add(letter.id)
                    _tell(letter.id, letter.first_seen_at, letter.kind, letter.cause, letter.queue, as_json=as_json)


def _tell(*facts: object, as_json: bool) -> None:
    id, at, kind, cause, queue = facts
    if as_json:
        print(json.dumps({"id": str(id), "at": str(at), "kind": kind, "cause": cause, "queue": queue}), flush=True)
        return
    line = f"{at:%H:%M:%S}  {str(id)[-8:]}  {kind or '?'} ({cause or 'cause not known'}) in {queue}"
    print(clean(line), flush=True)


def span(since: datetime, now: datetime) -> str:
    """How long it lasts."""
    return telling.span((now - since).total_seconds())


def _source(given: str | None) -> str | None:
    if given not in {None, "job", "sqs"}:
        raise ConfigurationError(f"--source is {given!r}; it is job (jobs of this ledger) or sqs (messages of SQS)")
    return given


def _require_one(wanted: LetterFilter, *, everything: bool, what: str) -> None:
    if wanted.is_everything and not everything:
        raise ConfigurationError(f"say what to {what}: ids, --group, --queue, ..., or --all of them")
    if everything and not wanted.is_everything:
        raise ConfigurationError("--all is all of them: give either it or a choice")


def _preview(ledger: SyncLedger, found: list[LetterCause], verb: str, *, as_json: bool, dry_run: bool) -> None:
    if as_json and (dry_run or not found):
        print_json(dry_run=dry_run, matching=sum(each.letters for each in found), groups=found)
    elif not as_json and not found:
        show("there are no such dead letters")
    elif not as_json:
        _show_groups(found, ledger.one(reads.ping()).clock)
        poison = sum(each.quarantined for each in found)
        show(Text(f"{_letters(sum(each.letters for each in found) - poison)} {verb}{_left_out(poison, 0)}", "bold"))


def _ask(verb: str, found: list[LetterCause], *, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty() or as_json:
        count = _letters(sum(each.letters for each in found))
        raise ConfigurationError(f"this would {verb} {count}; add --yes to do it, or --dry-run to look at them")
    typer.confirm(f"{verb.capitalize()} them?", abort=True)


def _show_groups(found: list[LetterCause], now: datetime) -> None:
    page = table("LETTERS", "WHAT", "CAUSE", "WHERE", "OLDEST", "GROUP", "")
    page.columns[0].justify = "right"
    for row in found:
        facts = [f"{row.returned:,} came back"] if row.returned else []
        facts += [f"{row.quarantined:,} in quarantine"] if row.quarantined else []
        where = row.queue if row.source == "sqs" else f"{row.queue} (jobs)"
        cells = (
            row.kind or "?",
            row.cause or "-",
            where,
            relative(row.oldest_at, now),
            row.fingerprint,
            ", ".join(facts),
        )
        page.add_row(f"{row.letters:,}", *(Text(clean(cell)) for cell in cells))
    show(page)


def _facts(letter: LetterPage, now: datetime) -> list[tuple[str, str]]:
    job, error = letter.job_status is not None, letter.job_error or {}
    decided = "" if letter.outcome is None else f"{letter.outcome} by {letter.outcome_by or '?'}"
    kept = "whole, and deleted from SQS" if letter.captured_at else "a copy; it is still in its queue"
    return [
        ("id", str(letter.id)),
        ("what", letter.kind or "not known"),
        ("cause", letter.cause or "not known"),
        ("where", letter.queue),
        ("group", letter.fingerprint),
        ("job", letter.job_id or ""),
        ("found", relative(letter.first_seen_at, now)),
        ("sent", "" if letter.sent_at is None else relative(letter.sent_at, now)),
        ("gone", "" if letter.gone_at is None else relative(letter.gone_at, now)),
        ("decided", f"{decided}: {letter.outcome_reason}" if letter.outcome_reason else decided),
        ("came back", f"{letter.returns} times" if letter.returns else ""),
        ("received", f"{letter.received} times" if letter.source == "sqs" else ""),
        ("kept", kept if letter.source == "sqs" else ""),
        ("job's status", letter.job_status or ""),
        ("attempts", f"{letter.job_attempts}, and {letter.job_crashes} crashes" if job else ""),
        ("last heartbeat", "" if letter.job_heartbeat_at is None else relative(letter.job_heartbeat_at, now)),
        ("worker", str(letter.job_worker or "")),
        ("error", first_line(f"{error.get('type', '')}: {error.get('message', '')}") if error else ""),
        ("traceback", str(error.get("traceback") or "").rstrip()),
    ]


def _find(ledger: SyncLedger, wanted: str) -> LetterPage:
    found = ledger.call(show_letter(wanted.lower()))
    if not found:
        raise ConfigurationError(f"no dead letter, and no job of one, has an id that begins or ends with {wanted!r}")
    if len(found) > 1 and found[0].job_id != found[1].job_id:
        raise ConfigurationError(f"several dead letters have ids that begin or end so, {wanted!r}; give more of it")
    return found[0]


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


def _left_out(quarantined: int, busy: int) -> str:
    parts = [f"{quarantined:,} in quarantine"] if quarantined else []
    parts += [f"{busy:,} in another redrive"] if busy else []
    return f"; left out: {', '.join(parts)}" if parts else ""


def _letters(count: int) -> str:
    return f"{count:,} letter{'s' * (count != 1)}"
