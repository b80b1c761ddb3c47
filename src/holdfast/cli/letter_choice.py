"""Choosing dead letters from the command line: by what, what that would be, and whether it is meant."""

import sys
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.filters import seconds
from holdfast.cli.letter_views import how_many, left_out, show_groups
from holdfast.cli.output import print_json, show
from holdfast.errors import ConfigurationError
from holdfast.postgres import reads
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.redrives import LetterCause, LetterFilter

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


def source_named(given: str | None) -> str | None:
    """The source that was asked for. Raises `ConfigurationError` for what is none."""
    if given not in {None, "job", "sqs"}:
        raise ConfigurationError(f"--source is {given!r}; it is job (jobs of this ledger) or sqs (messages of SQS)")
    return given


def require_one(wanted: LetterFilter, *, everything: bool, what: str) -> None:
    """Raise `ConfigurationError` unless it was said which letters are meant."""
    if wanted.is_everything and not everything:
        raise ConfigurationError(f"say what to {what}: ids, --group, --queue, ..., or --all of them")
    if everything and not wanted.is_everything:
        raise ConfigurationError("--all is all of them: give either it or a choice")


def preview(ledger: SyncLedger, found: list[LetterCause], verb: str, *, as_json: bool, dry_run: bool) -> None:
    """Show which letters that is."""
    if as_json and (dry_run or not found):
        print_json(dry_run=dry_run, matching=sum(each.letters for each in found), groups=found)
    elif not as_json and not found:
        show("there are no such dead letters")
    elif not as_json:
        show_groups(found, ledger.one(reads.ping()).clock)
        poison = sum(each.quarantined for each in found)
        show(Text(f"{how_many(sum(each.letters for each in found) - poison)} {verb}{left_out(poison, 0)}", "bold"))


def ask(verb: str, found: list[LetterCause], *, yes: bool, as_json: bool) -> None:
    """Go on only if it is meant: said beforehand, or at the terminal."""
    if yes:
        return
    if not sys.stdin.isatty() or as_json:
        count = how_many(sum(each.letters for each in found))
        raise ConfigurationError(f"this would {verb} {count}; add --yes to do it, or --dry-run to look at them")
    typer.confirm(f"{verb.capitalize()} them?", abort=True)
