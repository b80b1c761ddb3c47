"""Act on all jobs that a filter matches: look first, ask, then go through them in small batches."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from holdfast.cli.output import clean, print_json, relative, show, table
from holdfast.errors import ConfigurationError
from holdfast.postgres import calls, reads
from holdfast.postgres.ledger import SyncLedger

#: Jobs that one statement changes; they are locked for no longer than it takes.
BATCH = 200
#: How many are counted before somebody is asked.
MOST_COUNTED = 100_000
VERDICTS = {
    "queued": "queued again",
    "cancelled": "cancelled",
    "requested": "asked to stop: it is running, and its worker is told within seconds",
    "unique_taken": "refused: another job holds its unique key now",
    "running": "refused: it is running",
    "succeeded": "refused: it succeeded",
    "not_found": "not found; it may have been removed after its retention",
}
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)


@dataclass(frozen=True)
class Action:
    """What is to be done: `verb` for people ("retry", "retried"), `call` for the ledger."""

    verb: str
    done: str
    call: Callable[[Sequence[UUID]], calls.Call[calls.JobVerdict]]
    statuses: Sequence[str]
    accepts: Callable[[calls.JobVerdict], bool]


@dataclass(frozen=True)
class Manner:
    """How to go about it: only look; do not ask; print JSON."""

    dry_run: bool
    yes: bool
    as_json: bool


def act(ledger: SyncLedger, action: Action, wanted: reads.JobFilter, manner: Manner) -> int:
    """Preview, ask, act; the exit code."""
    groups = ledger.call(reads.matching_jobs(wanted, action.statuses, MOST_COUNTED))
    total = sum(group.jobs for group in groups)
    if manner.dry_run or not total:
        _preview(ledger, action, groups, manner)
        return 0
    if not manner.yes:
        _ask(ledger, action, groups, manner)
    verdicts = _go_through(ledger, action, wanted, groups, total)
    refused = sum(count for (_, accepted), count in verdicts.items() if not accepted)
    counted = {verdict: count for (verdict, _), count in sorted(verdicts.items())}
    if manner.as_json:
        print_json(accepted=not refused, verdicts=counted)
    else:
        done = sum(verdicts.values()) - refused
        show(Text(f"{action.done} {_jobs(done)}", "green"))
        for verdict, count in counted.items():
            if count and not any(accepted for (name, accepted) in verdicts if name == verdict):
                show(Text(f"{_jobs(count)} {VERDICTS.get(verdict, verdict)}", "yellow"))
    return 1 if refused else 0


def _preview(ledger: SyncLedger, action: Action, groups: Sequence[reads.MatchingJobs], manner: Manner) -> None:
    total = sum(group.jobs for group in groups)
    if manner.as_json:
        print_json(dry_run=manner.dry_run, matching=total, is_more=total >= MOST_COUNTED, groups=groups)
        return
    if not total:
        show(f"no jobs match that one could {action.verb}")
        return
    now = ledger.one(reads.ping()).clock
    lines = table("JOBS", "KIND", "QUEUE", "STATUS", "OLDEST")
    lines.columns[0].justify = "right"
    for group in groups:
        cells = (f"{group.jobs:,}", clean(group.kind), clean(group.queue), group.status, relative(group.oldest, now))
        lines.add_row(*(Text(cell) for cell in cells))
    show(lines, Text(f"{_jobs(total)}{' or more' * (total >= MOST_COUNTED)} to {action.verb}", "bold"))


def _ask(ledger: SyncLedger, action: Action, groups: Sequence[reads.MatchingJobs], manner: Manner) -> None:
    if not sys.stdin.isatty() or manner.as_json:
        total = sum(group.jobs for group in groups)
        raise ConfigurationError(
            f"this would {action.verb} {_jobs(total)}; add --yes to do it, or --dry-run to look at them"
        )
    _preview(ledger, action, groups, manner)
    typer.confirm(f"{action.verb.capitalize()} them?", abort=True)


def _go_through(
    ledger: SyncLedger, action: Action, wanted: reads.JobFilter, groups: Sequence[reads.MatchingJobs], total: int
) -> Counter[tuple[str, bool]]:
    """Jobs that come to match later are not touched, and none is touched twice."""
    last = _LAST if total >= MOST_COUNTED else max(group.last_id for group in groups)
    after, verdicts = _FIRST, Counter[tuple[str, bool]]()
    with _bar(action.verb, total) as advance:
        try:
            while ids := ledger.call(reads.matching_ids(wanted, action.statuses, after=after, last=last, limit=BATCH)):
                for verdict in ledger.call(action.call(ids)):
                    verdicts[verdict.verdict, action.accepts(verdict)] += 1
                after = ids[-1]
                advance(len(ids))
        except KeyboardInterrupt:
            print(f"\ninterrupted; {_jobs(sum(verdicts.values()))} done, the others are as they were", file=sys.stderr)
            raise
    return verdicts


@contextmanager
def _bar(verb: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda count: progress.advance(task, count)


def _jobs(count: int) -> str:
    return f"{count:,} job{'s' * (count != 1)}"
