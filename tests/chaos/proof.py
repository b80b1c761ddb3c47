"""The table of times: kept over one session, merged into docs/proof.json, printed at its end."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.checker import Findings, Times
from tests.chaos.harness import spread

FILE = Path(__file__).parents[2] / "docs" / "proof.json"


@dataclass(frozen=True)
class Proof:
    """One fault of one session."""

    fault: str
    seed: int
    found: Findings
    times: Times
    held: float | None

    def as_json(self) -> dict[str, Any]:
        return {
            "fault": self.fault,
            "seed": self.seed,
            "jobs": self.found.jobs,
            "fault_lasts": self.held,
            "detect": {"samples": len(self.times.detect), **spread(self.times.detect)},
            "resume": {"samples": len(self.times.resume), **spread(self.times.resume)},
            "lost": self.found.lost,
            "false_rescues": self.found.false_rescues,
            "fenced_late_writes": self.found.fenced_late_writes,
            "overlapping_runs": self.found.overlapping_runs,
            "rescues": self.found.rescues,
            "verdict": "; ".join(self.found.problems) or "held",
        }


def write(proofs: list[Proof], settings: dict[str, float]) -> None:
    """Faults of this session replace those of the same name; the others stay."""
    known: dict[str, Any] = {}
    if FILE.exists():
        known = {row["fault"]: row for row in json.loads(FILE.read_text())["faults"]}
    known.update({proof.fault: proof.as_json() for proof in proofs})
    text = json.dumps({"seconds": settings, "faults": [known[name] for name in sorted(known)]}, indent=2)
    FILE.write_text(text + "\n")


def table(proofs: list[Proof]) -> list[str]:
    """Lines for the terminal."""
    heads = ("fault", "seed", "jobs", "lasts", "detect p50/p99/max", "resume p50/p99/max", "lost", "false", "fenced")
    rows = [heads, *(_cells(proof) for proof in proofs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(proof: Proof) -> tuple[str, ...]:
    found = proof.found
    return (
        proof.fault,
        str(proof.seed),
        str(found.jobs),
        "" if proof.held is None else f"{proof.held:.1f}",
        _spread(proof.times.detect),
        _spread(proof.times.resume),
        str(found.lost),
        str(found.false_rescues),
        f"{found.fenced_late_writes}  {'; '.join(found.problems)[:60] or 'held'}",
    )


def _spread(samples: list[float]) -> str:
    return " / ".join("-" if value is None else f"{value:.2f}" for value in spread(samples).values())
