"""`holdfast jobs`: look at jobs, retry them, cancel them."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.text import Text

from holdfast.cli.bulk import VERDICTS, Action, Manner, act
from holdfast.cli.filters import Error, Key, KindName, Newer, Older, Queue, as_options
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, console, first_line, print_json, relative, show, span, table
from holdfast.cli.timeline import describe_job
from holdfast.errors import ConfigurationError, JobNotFound
from holdfast.postgres import calls, reads
from holdfast.postgres.reads import JobSummary
from holdfast.services.story import timeline

#: From this width on, a job takes one line of a terminal.
ONE_LINE = 120
STYLES = {"queued": "cyan", "running": "blue", "succeeded": "green", "dead": "red", "cancelled": "dim"}
_ACCEPTED = {"queued", "cancelled", "requested"}
jobs = typer.Typer(help="Look at jobs, retry them, cancel them.", no_args_is_help=True)


class Status(StrEnum):
    """What --status accepts."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Ended(StrEnum):
    """What a retry by filter may choose."""

    DEAD = "dead"
    CANCELLED = "cancelled"


class Live(StrEnum):
    """What a cancel by filter may choose."""

    QUEUED = "queued"
    RUNNING = "running"


def job_id(text: str) -> UUID:
    """A job's id as it is typed."""
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a job's id, which is a UUID like 01a2b3c4-d5e6-7f80-91a2-b3c4d5e6f708; "
            "see: holdfast jobs list"
        ) from None


Id = Annotated[UUID, typer.Argument(parser=job_id, metavar="ID", show_default=False, help="The job's id.")]
Ids = Annotated[list[UUID] | None, typer.Argument(parser=job_id, metavar="ID", show_default=False, help="Jobs' ids.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what the filter matches, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@jobs.command("list")
def list_jobs(
    *,
    status: Annotated[Status | None, typer.Option(help="Only jobs in this state.")] = None,
    queue: Queue = None,
    kind: KindName = None,
    error: Error = None,
    key: Key = None,
    newer: Newer = None,
    older: Older = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    before: Annotated[
        UUID | None, typer.Option(parser=job_id, metavar="ID", help="Only jobs older than this one: the next page.")
    ] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Jobs, the newest first."""
    wanted = reads.JobFilter(queue, kind, error, key, newer, older)
    with open_ledger(database_url, data_dir) as ledger:
        found = ledger.call(
            reads.list_jobs(
                status=None if status is None else status.value, queue=queue, kind=kind, error=error, key=key,
                newer=newer, older=older, before=before, limit=limit + 1,
            )
        )  # fmt: skip
        now = ledger.one(reads.ping()).clock
    page, more = found[:limit], len(found) > limit
    if as_json:
        print_json(jobs=page, next_before=page[-1].id if more else None)
        return
    given = ({} if status is None else {"--status": status.value}) | as_options(wanted)
    if not page:
        show("no jobs match" if given or before else "no jobs yet")
        return
    _show_page(page, now)
    if more:
        options = {**given, "--limit": str(limit), "--before": str(page[-1].id)}
        words = " ".join(f"{name} {shlex.quote(clean(value))}" for name, value in options.items())
        show(Text(f"more: holdfast jobs list {words}", "dim"))


@jobs.command("show")
def show_job(id: Id, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One job: its row, and what happened to it."""
    with open_ledger(database_url, data_dir) as ledger:
        rows = ledger.call(reads.job(id))
        if not rows:
            raise JobNotFound(f"no job has the id {id}; it may have been removed after its retention")
        events = ledger.call(reads.job_events(id))
        # The page that begins just after this id has it as its first line, and knows whether a worker knows its kind.
        summaries = ledger.call(reads.list_jobs(before=UUID(int=min(id.int + 1, 2**128 - 1)), limit=1))
        now = ledger.one(reads.ping()).clock
    moments = timeline(rows[0], events)
    if as_json:
        print_json(job=rows[0], timeline=moments)
        return
    in_words = next((describe(summary, now) for summary in summaries if summary.id == id), Text(rows[0].status))
    show(*describe_job(rows[0], in_words, moments, now))


@jobs.command(epilog="Exit code 1 when any was not found or refused, 2 without ids, filter or consent.")
def retry(
    ids: Ids = None,
    *,
    status: Annotated[Ended | None, typer.Option(help="With a filter: dead (the default) or cancelled.")] = None,
    queue: Queue = None,
    kind: KindName = None,
    error: Error = None,
    key: Key = None,
    newer: Newer = None,
    older: Older = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give dead or cancelled jobs another life, by their ids or by a filter; wake queued ones by their ids."""
    action = Action("retry", "retried", calls.retry_jobs, [(status or Ended.DEAD).value], _is_accepted)
    wanted = reads.JobFilter(queue, kind, error, key, newer, older)
    manner, where = Manner(dry_run, yes, as_json), (database_url, data_dir)
    _carry_out(action, ids or [], wanted, manner, where=where, is_filter=status is not None)


@jobs.command(epilog="Exit code 1 when any was not found or had ended, 2 without ids, filter or consent.")
def cancel(
    ids: Ids = None,
    *,
    status: Annotated[Live | None, typer.Option(help="With a filter: queued or running; by default both.")] = None,
    queue: Queue = None,
    kind: KindName = None,
    error: Error = None,
    key: Key = None,
    newer: Newer = None,
    older: Older = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs, by their ids or by a filter: queued ones at once, running ones are asked to stop."""
    statuses = [each.value for each in Live] if status is None else [status.value]
    action = Action("cancel", "cancelled", calls.cancel_jobs, statuses, _is_accepted)
    wanted = reads.JobFilter(queue, kind, error, key, newer, older)
    manner, where = Manner(dry_run, yes, as_json), (database_url, data_dir)
    _carry_out(action, ids or [], wanted, manner, where=where, is_filter=status is not None)


def _carry_out(
    action: Action,
    ids: list[UUID],
    wanted: reads.JobFilter,
    manner: Manner,
    *,
    where: tuple[str | None, Path | None],
    is_filter: bool,
) -> None:
    """By ids or by a filter: both would be a riddle, and neither would be everything."""
    is_filter = is_filter or wanted != reads.JobFilter()
    if bool(ids) == is_filter:
        command = f"holdfast jobs {action.verb}"
        raise ConfigurationError(
            f"{'give ids or a filter, not both' if ids else f'which jobs to {action.verb}?'}"
            f" By ids: {command} ID...; by a filter: {command} --kind NAME --dry-run"
        )
    with open_ledger(*where) as ledger:
        if is_filter:
            raise typer.Exit(act(ledger, action, wanted, manner))
        if manner.dry_run:
            raise ConfigurationError("--dry-run looks at what a filter matches; single jobs: holdfast jobs show ID")
        verdicts = ledger.call(action.call(ids))
    _answer(verdicts, manner.as_json)


def _answer(verdicts: Sequence[calls.JobVerdict], as_json: bool) -> None:
    accepted = all(_is_accepted(verdict) for verdict in verdicts)
    if as_json:
        print_json(accepted=accepted, jobs=verdicts)
    else:
        for verdict in verdicts:
            words = VERDICTS.get(verdict.verdict, f"it is {verdict.status} already")
            style = "green" if _is_accepted(verdict) else "red"
            show(Text.assemble(f"{verdict.id}  ", (words, style)))
    raise typer.Exit(0 if accepted else 1)


def _is_accepted(verdict: calls.JobVerdict) -> bool:
    """Cancelling what is cancelled already changes nothing, and is what was asked for."""
    return verdict.verdict in _ACCEPTED or (verdict.verdict, verdict.status) == ("finished", "cancelled")


def _show_page(page: Sequence[JobSummary], now: datetime) -> None:
    """A job takes one line; in a narrow terminal its id goes below its kind, since an id must never be cut."""
    is_wide = console().width >= ONE_LINE
    lines = table(*(("ID", "KIND", "QUEUE") if is_wide else ("JOB",)), "TRIES", "AGE", "STATUS")
    lines.columns[-1].no_wrap = False
    for column in lines.columns[:-1]:
        column.overflow = "ellipsis"
    lines.columns[0].min_width = 36
    for summary in page:
        age = span(max(0.0, (now - summary.created_at).total_seconds()))
        tries = f"{summary.attempts}/{summary.max_attempts}"
        kind, queue = clean(summary.kind), clean(summary.queue)
        job = [str(summary.id), kind, queue] if is_wide else [f"{kind} on {queue}\n{summary.id}"]
        lines.add_row(*(Text(cell) for cell in (*job, tries, age)), describe(summary, now))
    show(lines)


def describe(job: JobSummary, now: datetime) -> Text:
    """Where a job stands, and what it waits for or died of, in a few words."""
    status = Text(job.status, STYLES.get(job.status, ""))
    error = first_line(job.error or "")
    if job.status == "queued" and job.known is False:
        return status.append(" (no worker knows this kind)", "yellow")
    if job.status == "queued":
        after = f" after: {error}" if error and job.attempts else ""
        when = f", due {relative(job.run_at, now)}" if job.run_at > now else f" and due for {_since(job.run_at, now)}"
        return status.append(f"{when}{after}", "default")
    if job.status == "running":
        return status.append(f" for {_since(job.claimed_at or now, now)}", "default")
    if job.status == "dead":
        return status.append(f" {relative(job.finished_at or now, now)}: {error}", "default")
    return status.append(f" {relative(job.finished_at or now, now)}", "default")


def _since(then: datetime, now: datetime) -> str:
    return span(max(0.0, (now - then).total_seconds()))
