"""Writes docs/benchmarks.md and its chart from bench/results.json: `python -m bench.page`."""

import html
import json
import math
import statistics
from pathlib import Path
from typing import Any

from bench.harness import HERE, RESULTS

PAGE = HERE.parent / "docs" / "benchmarks.md"
CHART = HERE.parent / "docs" / "benchmarks.svg"
HEAD = """# Benchmarks

Written from [bench/results.json](../bench/results.json) by `python -m bench.page`; do not edit. `./bench/run` measures
again, each group by itself (`./bench/run jobs`). Us and the others run on the same server, in turns within one run;
what is judged is the median of the rounds, and in brackets are the least and the most. Absolute figures are those of
one shared machine and mean little; ratios mean more.

![How many times as fast as others, on a logarithmic scale](benchmarks.svg)
"""


def page(known: dict[str, Any]) -> str:
    """The page: a table for each group, a line for each row."""
    parts = [HEAD]
    for name, group in sorted(known.items()):
        parts.append(f"\n## {name}\n\n| | verdict | median (least to most) | target |\n|---|---|---|---|\n")
        for title, row in sorted(group["rows"].items()):
            note = f"<br>{row['note']}" if row.get("note") else ""
            parts.append(f"| {title}{note} | {row['verdict']} | {row['value']} | {row['target']} |\n")
        told = [f"{key} {value}" for key, value in group.get("settings", {}).items()]
        parts.append("\n" + "; ".join(told) + ".\n" if told else "")
    return "".join(parts)


def chart(known: dict[str, Any]) -> str:
    """Bars of the ratios to others, where more is better; 1 is as fast as they are."""
    ratios = [
        (f"{group}: {title}", statistics.median(row["judged"]))
        for group, found in sorted(known.items())
        for title, row in sorted(found["rows"].items())
        if len(row.get("sides", {})) > 1 and row["target"].startswith("at least")
    ]
    lines = [_bar(number, title, ratio) for number, (title, ratio) in enumerate(ratios)]
    height = 30 * len(lines) + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{height}" font-family="sans-serif"'
        f' font-size="13">\n'
        f'<rect width="960" height="{height}" fill="#fff"/>\n{"".join(lines)}</svg>\n'
    )


def _bar(number: int, title: str, ratio: float) -> str:
    y, width = 30 * number + 15, max(2.0, 100 + 50 * _log2(ratio))
    label, color = html.escape(title), "#2563eb" if ratio >= 1 else "#b45309"
    return (
        f'<rect x="560" y="{y}" width="{width:.0f}" height="14" fill="{color}"/>'
        f'<text x="550" y="{y + 12}" text-anchor="end">{label}</text>'
        f'<text x="{570 + width:.0f}" y="{y + 12}">{ratio:.3g}</text>\n'
    )


def _log2(ratio: float) -> float:
    return math.log2(max(ratio, 0.25))


def write(page_at: Path = PAGE, chart_at: Path = CHART) -> None:
    """Write both."""
    known = json.loads(RESULTS.read_text())
    page_at.write_text(page(known))
    chart_at.write_text(chart(known))


if __name__ == "__main__":
    write()
