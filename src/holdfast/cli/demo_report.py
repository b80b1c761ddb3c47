"""What the demo found: checked against what is true, not against what the ledger says of itself."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from rich.table import Table

from holdfast.cli.demo_kinds import read_digest
from holdfast.postgres import reads

FEWEST_IN_FLIGHT = 5


@dataclass
class Fault:
    """One fault. Times are the ledger's clock; samples are seconds from the fault, one for each job in flight.

    `in_flight` is counted afterwards, from the ledger's events: what the process really held.
    """

    what: str
    at: datetime
    worker_id: str | None = None
    pid: int | None = None
    in_flight: int = 0
    claimable: list[float] = field(default_factory=list)
    reclaimed: list[float] = field(default_factory=list)
    back_after: float | None = None
    done_meanwhile: int | None = None


@dataclass
class Report:
    """What came out. `problems` is empty when every promise of the demo was kept."""

    submitted: int = 0
    succeeded: int = 0
    dead: int = 0
    lost: int = 0
    wrong: int = 0
    false_rescues: int = 0
    fenced_late_writes: int = 0
    rescues: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    bells: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def check_jobs(report: Report, expected: Mapping[UUID, Path], found: Mapping[UUID, reads.JobOutcome]) -> None:
    """Every job that was submitted against its file."""
    for job_id, path in expected.items():
        ended = found.get(job_id)
        if ended is None:
            report.lost += 1
        elif ended.status != "succeeded":
            report.dead += 1
        else:
            report.succeeded += 1
            report.wrong += ended.result != read_digest(path)
    if report.lost:
        report.problems.append(f"{report.lost} jobs are lost")
    if report.dead:
        report.problems.append(f"{report.dead} jobs did not succeed")
    if report.wrong:
        report.problems.append(f"{report.wrong} digests are wrong")


def check_rescues(report: Report, rescues: Sequence[reads.QueueRescue]) -> None:
    """What the rescues did, by the ledger's own timestamps, for each fault that hit a process."""
    report.fenced_late_writes = sum(1 for rescue in rescues if rescue.event == "fenced_late_write")
    taken = measure(report.faults, rescues)
    for rescue in taken:
        report.rescues[rescue.reason] = report.rescues.get(rescue.reason, 0) + 1
    report.false_rescues = sum(1 for rescue in taken if rescue.is_false)
    if report.false_rescues:
        report.problems.append(f"{report.false_rescues} rescues took a job from a worker that was still trusted")
    for fault in report.faults:
        if fault.worker_id is not None:
            _check(report, fault)


def measure(faults: Sequence[Fault], rescues: Sequence[reads.QueueRescue]) -> list[reads.QueueRescue]:
    """Fill in what became of the jobs that each fault hit; the rescues among the events."""
    taken = [rescue for rescue in rescues if rescue.event in ("rescue", "crash")]
    for fault in faults:
        mine = [rescue for rescue in taken if str(rescue.worker_id) == fault.worker_id]
        if mine:
            again = [rescue.next_claimed_at for rescue in mine if rescue.next_claimed_at is not None]
            fault.in_flight = len(mine)
            fault.claimable = sorted((rescue.at - fault.at).total_seconds() for rescue in mine)
            fault.reclaimed = sorted((claimed_at - fault.at).total_seconds() for claimed_at in again)
    return taken


def _check(report: Report, fault: Fault) -> None:
    if fault.in_flight < FEWEST_IN_FLIGHT:
        report.problems.append(f"the {fault.what} of process {fault.pid} hit {fault.in_flight} jobs, too few to count")
    missing = fault.in_flight - len(fault.reclaimed)
    if missing:
        report.problems.append(f"{missing} jobs of process {fault.pid} were rescued, and no second claim is seen")


def summary(report: Report) -> str:
    """The last line."""
    return f"lost {report.lost}, wrong {report.wrong}, false rescues {report.false_rescues}"


def render(report: Report) -> Table:
    """The table at the end."""
    table = Table(title="What came of it", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, count in (
        ("submitted", report.submitted),
        ("succeeded", report.succeeded),
        ("dead", report.dead),
        ("lost", report.lost),
        ("wrong digests", report.wrong),
        ("false rescues", report.false_rescues),
        ("late writes fenced off", report.fenced_late_writes),
    ):
        table.add_row(name, f"{count:,}")
    for reason, count in sorted(report.rescues.items()):
        table.add_row(f"rescued: {reason}", f"{count:,}")
    for what, count in report.bells.items():
        table.add_row(f"bells over SQS: {what}", f"{count:,}")
    for fault in report.faults:
        if fault.worker_id is not None:
            table.add_row(f"in flight at the {fault.what} of process {fault.pid}", f"{fault.in_flight}")
        elif fault.done_meanwhile is not None:
            table.add_row(f"succeeded in the {fault.what}", f"{fault.done_meanwhile:,}")
        elif fault.back_after is not None:
            table.add_row(f"from {fault.what} to the next job that succeeded", f"{fault.back_after:.2f} s")
    for what in dict.fromkeys(fault.what for fault in report.faults if fault.worker_id is not None):
        _add_spread(
            table, f"from {what} to claimable", [s for f in report.faults if f.what == what for s in f.claimable]
        )
        _add_spread(
            table, f"from {what} to claimed again", [s for f in report.faults if f.what == what for s in f.reclaimed]
        )
    table.add_row("took", f"{report.seconds:g} s")
    return table


def spread(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median, 99th percentile (nearest rank) and maximum."""
    ordered = sorted(samples)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], ordered[-1]


def _add_spread(table: Table, name: str, samples: Sequence[float]) -> None:
    if samples:
        table.add_row(f"{name}: p50, p99, max", ", ".join(f"{value:.2f} s" for value in spread(samples)))
