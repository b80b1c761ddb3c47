"""Options that choose jobs, for the commands that list them and those that act on them."""

import re
from typing import Annotated

import typer

from holdfast.cli.completing import kind_names, queue_names
from holdfast.postgres.reads import JobFilter

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)")
LONGEST = 10 * 366 * 86_400.0


def seconds(text: str) -> float:
    """A span as it is typed.

    >>> seconds("90s"), seconds("15min"), seconds("1.5h"), seconds("7d")
    (90.0, 900.0, 5400.0, 604800.0)
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None or float(found[1]) * _UNITS[found[2]] > LONGEST:
        raise typer.BadParameter(f"{text!r} is no span of time, which is a number and s, min, h, d or w: 15min, 2h, 7d")
    return float(found[1]) * _UNITS[found[2]]


Queue = Annotated[str | None, typer.Option(help="Only jobs of this queue.", autocompletion=queue_names)]
KindName = Annotated[str | None, typer.Option("--kind", help="Only jobs of this kind.", autocompletion=kind_names)]
Error = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only jobs whose last error holds this text, in either case.")
]
Key = Annotated[str | None, typer.Option(metavar="KEY", help="Only jobs with this unique, group or limit key.")]
Newer = Annotated[
    float | None,
    typer.Option(parser=seconds, metavar="SPAN", help="Only jobs enqueued within this span: 15min, 2h, 7d."),
]
Older = Annotated[
    float | None, typer.Option(parser=seconds, metavar="SPAN", help="Only jobs enqueued longer ago than this.")
]


def as_options(wanted: JobFilter) -> dict[str, str]:
    """The options that say the same."""
    texts = {"--queue": wanted.queue, "--kind": wanted.kind, "--error": wanted.error, "--key": wanted.key}
    spans = {"--newer": wanted.newer, "--older": wanted.older}
    given = {name: text for name, text in texts.items() if text is not None}
    return given | {name: f"{span:g}s" for name, span in spans.items() if span is not None}
