"""Writes docs/why/proof.md from docs/proof.json and docs/peers.json: `python -m tests.chaos.page`."""

import json
from pathlib import Path
from typing import Any

from bench.faults.page import short
from tests.chaos.proof import FILE

PEERS = FILE.with_name("peers.json")

PAGE = Path(__file__).parents[2] / "docs" / "why" / "proof.md"
HEAD = """# What happens when it breaks

Written from [docs/proof.json](../proof.json) by `python -m tests.chaos.page`; do not edit. `./test --chaos` does all
of it again, on real processes and a real Postgres, with a seed for each fault, and prints this table.

Each fault hits a fleet that is at work. A trigger keeps everything that happens to each job's row, the handlers keep
what they did in files of their own, and a checker reads both afterwards: every job that was confirmed has ended;
leases only grew; nobody but the holder of a lease wrote; no job was taken from a worker that lived; jobs that share a
fault with a bad one lost no attempt. *Detected* is the time from the fault until the ledger knows of it, *running
again* until the last job that was hit has begun anew elsewhere.

- *fenced* counts late writes of runs that had been given up. Each was refused: that is the lease at work.
- *overlaps* are runs whose handler was still at something when its job began anew. Python cannot stop a handler that
  blocks its thread; whatever it writes is fenced, and what it does elsewhere is why handlers should be idempotent
  ([leases](leases.md)).
"""
QUICK = """
## With short times

A worker is declared gone after {lost_after:g} s without a beat, beats come each {beat_interval:g} s, and a job is
stale after {stale_after:g} s, so that a run of all faults takes minutes. The rules are the same; the times of what
waits for silence scale with these settings.
"""
DEFAULT = """
## With the defaults

25 s of silence, a beat each 5 s: what a user has who sets nothing.
"""
BESIDE = """
## Beside its peers

Some of these faults, and others with their own settings and told to be quick, measured by `./bench/run faults`. What
each column means, and all of it: [the same faults, beside its peers](proof-peers.md).

"""
COLUMNS = "| fault | jobs | it lasts | detected | running again | lost | false rescues | fenced | overlaps | |\n"
LINE = "|---|---|---|---|---|---|---|---|---|---|\n"
MARK = " (default timings)"


def page(known: dict[str, Any], peers: dict[str, Any]) -> str:
    """Two tables, a line for each fault, and what others did in some of them."""
    default = [row for row in known["faults"] if row["fault"].endswith(MARK)]
    quick = [row for row in known["faults"] if not row["fault"].endswith(MARK)]
    ours = HEAD + QUICK.format(**known["seconds"]) + _table(quick) + DEFAULT + _table(default)
    return ours + BESIDE + short(peers)


def _table(rows: list[dict[str, Any]]) -> str:
    return "\n" + COLUMNS + LINE + "".join(map(_line, rows))


def _line(row: dict[str, Any]) -> str:
    lasts = "" if row["fault_lasts"] is None else f"{row['fault_lasts']:.1f} s"
    cells = (
        row["fault"].removesuffix(MARK), row["jobs"], lasts, _spread(row["detect"]), _spread(row["resume"]),
        row["lost"], row["false_rescues"], row["fenced_late_writes"], row["overlapping_runs"], row["verdict"],
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def _spread(times: dict[str, Any]) -> str:
    """One time, or the median and the most."""
    if not times["samples"]:
        return ""
    most = f"{times['max']:.2f} s"
    return most if times["samples"] == 1 else f"{times['p50']:.2f}, at most {most}"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(FILE.read_text()), json.loads(PEERS.read_text())))
