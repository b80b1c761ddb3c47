"""What the commands print: tables for people, one JSON object for programs."""

import json
import os
import sys
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.table import Table

SCHEMA = 1
_UNLIMITED = 4_000
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def is_plain(stream: TextIO) -> bool:
    """Whether a stream gets text only: it is no terminal, or NO_COLOR is set (https://no-color.org)."""
    return not stream.isatty() or bool(os.environ.get("NO_COLOR"))


def console() -> Console:
    """Standard output for people. What is no terminal gets whole lines, however long."""
    return Console(
        file=sys.stdout,
        color_system=None if is_plain(sys.stdout) else "auto",
        width=None if sys.stdout.isatty() else _UNLIMITED,
        highlight=False,
        markup=False,
        emoji=False,
    )


def show(*renderables: RenderableType) -> None:
    """Print for people; without the spaces at the ends of a table's lines where they would land in a file."""
    out = console()
    if out.is_terminal:
        out.print(*renderables, sep="\n")
        return
    with out.capture() as captured:
        out.print(*renderables, sep="\n")
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    sys.stdout.flush()


def table(*columns: str) -> Table:
    """A table without lines: a dim header, two spaces between the columns."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        made.add_column(column, no_wrap=True)
    return made


def pairs(rows: list[tuple[str, RenderableType]]) -> Table:
    """Names on the left, what belongs to them on the right."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(f"  {name}", value)
    return grid


def print_json(**content: Any) -> None:
    """One object with the number of its schema; times in ISO 8601 (UTC), durations in seconds."""
    print(json.dumps({"schema": SCHEMA, **content}, indent=2, default=as_json))


def as_json(value: Any) -> Any:
    """What JSON has no form for."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return str(value)


def span(seconds: float) -> str:
    """A duration in its largest unit that is not 0.

    >>> span(12.3), span(200), span(7200)
    ('12 s', '3 min', '2 h')
    """
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def relative(then: datetime, now: datetime) -> str:
    """A time as people say it: "12 s ago", "in 3 min"."""
    seconds = (now - then).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def clean(text: str) -> str:
    """Text from a job, harmless for a terminal: no control characters but line ends and tabs."""
    return text.translate(_CONTROLS)


def first_line(text: str, most: int = 160) -> str:
    """The first line, cut to `most` characters."""
    line = clean(text.strip().partition("\n")[0])
    return line if len(line) <= most else f"{line[: most - 1]}…"
