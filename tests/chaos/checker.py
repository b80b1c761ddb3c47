"""What must hold after any fault: the ledger's history against the traces that the handlers left outside it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from tests.chaos.harness import Chaos, Trace, at_time, until

#: Kinds that are meant to end badly.
GUILTY = frozenset({"eats_memory", "segfaults", "kills_itself"})
#: A trace is written just before or after what it tells; a busy machine may sit in between.
SLACK = 0.3


@dataclass
class Findings:
    """Counts of what was found; `problems` says in words what must not be."""

    jobs: int = 0
    lost: int = 0
    innocents_dead: int = 0
    false_rescues: int = 0
    fenced_late_writes: int = 0
    overlapping_runs: int = 0
    written_after_taken: int = 0
    doubled_effects: int = 0
    shrunk_leases: int = 0
    ran_on_after_gone: int = 0
    rescues: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def must_be_none(self, name: str) -> None:
        count = getattr(self, name)
        if count:
            self.problems.append(f"{name.replace('_', ' ')}: {count}")


def check(chaos: Chaos, *, frozen: Collection[UUID] = ()) -> Findings:
    """Read everything and judge. `frozen` are workers that were stopped by force: they alone may run on when gone."""
    traces = chaos.traces()
    found = Findings(jobs=len(chaos.submitted))
    _check_jobs(chaos, found)
    _check_effects(chaos, found)
    _check_history(chaos, traces, found)
    _check_rescues(chaos, traces, found)
    _check_gone(chaos, traces, found, frozen)
    for name in ("lost", "innocents_dead", "false_rescues", "written_after_taken", "doubled_effects", "shrunk_leases"):
        found.must_be_none(name)
    found.must_be_none("ran_on_after_gone")
    _check_brake(chaos)
    return found


def _check_jobs(chaos: Chaos, found: Findings) -> None:
    rows = chaos.ask("SELECT id, status FROM holdfast.jobs WHERE id = ANY (%s)", list(chaos.submitted))
    status = {row["id"]: row["status"] for row in rows}
    for job_id, kind in chaos.submitted.items():
        found.lost += status.get(job_id) not in ("succeeded", "dead", "cancelled")
        if status.get(job_id) == "dead" and kind not in GUILTY:
            found.innocents_dead += 1
            found.problems.append(f"{kind} {job_id} is dead")


def _check_effects(chaos: Chaos, found: Findings) -> None:
    """Rows of ctx.transaction: one for each job that succeeded, under the lease that settled it; no other."""
    rows = chaos.ask(
        "SELECT j.id, j.status, j.lease, array_remove(array_agg(e.lease), NULL) AS effects"
        " FROM holdfast.jobs j LEFT JOIN chaos.effects e ON e.job_id = j.id WHERE j.kind = 'paid' GROUP BY j.id"
    )
    for row in rows:
        expected = [row["lease"]] if row["status"] == "succeeded" else []
        if row["effects"] != expected:
            found.doubled_effects += 1
            found.problems.append(f"paid {row['id']} {row['status']} under {row['lease']}, effects {row['effects']}")


def _check_history(chaos: Chaos, traces: Sequence[Trace], found: Findings) -> None:
    """Leases only grow; nobody wrote under a lease once a later run of that job had begun, by the handlers' word."""
    begun: dict[UUID, list[tuple[int, float]]] = {}
    last: dict[tuple[UUID, int], float] = {}
    for trace in traces:
        last[trace.job_id, trace.lease] = trace.at
        if trace.what == "start":
            begun.setdefault(trace.job_id, []).append((trace.lease, trace.at))
    for job_id, runs in begun.items():
        leases = [lease for lease, _ in runs]
        if len(leases) != len(set(leases)):
            found.problems.append(f"job {job_id} began twice under one lease: {leases}")
        for lease, _ in runs:
            found.overlapping_runs += any(later > lease and at < last[job_id, lease] for later, at in runs)
    for row in chaos.ask("SELECT * FROM chaos.history WHERE lease_before IS NOT NULL ORDER BY seq"):
        claimed = row["status_before"] == "queued" and row["status"] == "running"
        if row["lease"] < row["lease_before"] or (claimed and row["lease"] != row["lease_before"] + 1):
            found.shrunk_leases += 1
        if row["status_before"] == "running" and row["lease"] == row["lease_before"]:
            runs = begun.get(row["job_id"], [])
            found.written_after_taken += any(later > row["lease"] and at < row["at"].timestamp() for later, at in runs)


def _check_rescues(chaos: Chaos, traces: Sequence[Trace], found: Findings) -> None:
    began = {(trace.job_id, trace.lease) for trace in traces if trace.what == "start"}
    events = chaos.ask(
        "SELECT e.job_id, e.lease, e.event, e.reason, e.at, e.details, w.gone_at, w.gone_reason, w.seen_at,"
        " extract(epoch FROM j.timeout) AS timeout"
        " FROM holdfast.job_events e JOIN holdfast.jobs j ON j.id = e.job_id"
        " LEFT JOIN holdfast.workers w ON w.id = e.worker_id"
        " WHERE e.event IN ('rescue', 'crash', 'fenced_late_write') ORDER BY e.id"
    )
    for event in events:
        if event["event"] == "fenced_late_write":
            found.fenced_late_writes += 1
            continue
        found.rescues[event["reason"]] = found.rescues.get(event["reason"], 0) + 1
        if _is_false(chaos, event, began):
            found.false_rescues += 1
            found.problems.append(f"false rescue of {event['job_id']} under {event['lease']}: {event}")


def _is_false(chaos: Chaos, event: dict[str, Any], began: Collection[tuple[UUID, int]]) -> bool:
    """The rule of P4, by the ledger's own timestamps; for a lost claim by the handler's own word."""
    at = event["at"]
    silent = float(event["details"].get("silent_seconds", 0))
    match event["reason"]:
        case "worker_gone":
            gone = event["gone_at"]
            lapsed = event["gone_reason"] == "lapsed"
            return (
                gone is None or gone > at or (lapsed and (gone - event["seen_at"]).total_seconds() < chaos.lost_after)
            )
        case "deadline_passed":
            claimed = datetime.fromisoformat(event["details"]["claimed_at"])
            return (at - claimed).total_seconds() < float(event["timeout"]) + 30
        case "no_heartbeat":
            return silent < chaos.stale_after
        case _:
            return (event["job_id"], event["lease"]) in began


def _check_gone(chaos: Chaos, traces: Sequence[Trace], found: Findings, frozen: Collection[UUID]) -> None:
    """Exit first, then gone: a worker that was declared gone has no handler that still runs."""
    holders = {
        (row["job_id"], row["lease"]): (row["worker_id"], row["gone_at"], row["gone_reason"])
        for row in chaos.ask(
            "SELECT h.job_id, h.lease, w.id AS worker_id, w.gone_at, w.gone_reason FROM chaos.history h"
            " JOIN holdfast.workers w ON w.id = h.worker_id WHERE h.status = 'running' AND h.status_before = 'queued'"
        )
    }
    for trace in traces:
        worker_id, gone_at, reason = holders.get((trace.job_id, trace.lease), (None, None, None))
        if gone_at is not None and worker_id not in frozen and trace.at > gone_at.timestamp() + SLACK:
            found.ran_on_after_gone += 1
            late = trace.at - gone_at.timestamp()
            found.problems.append(f"{trace.what} of {trace.job_id} {late:.2f} s after its worker was gone ({reason})")


def _check_brake(chaos: Chaos) -> None:
    """Every hold ends: at the latest 25 s after first sight."""
    until(
        lambda: chaos.value("SELECT coalesce(bool_and(hold IS NULL OR hold ? 'ended'), true) FROM holdfast.monitors"),
        "the brake lets go",
        seconds=40,
    )


@dataclass
class Times:
    """Seconds from a fault to what followed; one sample for each worker, job, or blow."""

    detect: list[float] = field(default_factory=list)
    resume: list[float] = field(default_factory=list)

    def follow(self, chaos: Chaos, fault_at: float, worker_id: UUID) -> int:
        """What became of a worker and of all jobs that it held at the fault; how many those were."""
        gone = chaos.gone_at(worker_id)
        assert gone is not None
        self.detect.append(gone - fault_at)
        rows = chaos.ask(
            """
            SELECT (SELECT min(x.at) FROM chaos.history x
                    WHERE x.job_id = h.job_id AND x.lease > h.lease AND x.status = 'running') AS again
            FROM chaos.history h
            WHERE h.status = 'running' AND h.status_before = 'queued' AND h.worker_id = %(worker)s AND h.at <= %(at)s
              AND NOT EXISTS (SELECT FROM chaos.history x WHERE x.job_id = h.job_id AND x.seq > h.seq
                              AND x.at <= %(at)s AND x.status <> 'running')
            """,
            {"worker": worker_id, "at": at_time(fault_at)},
        )
        again = [row["again"].timestamp() - fault_at for row in rows if row["again"] is not None]
        self.resume += again
        return len(again)

    def recovered(self, chaos: Chaos, fault_at: float, since: float) -> None:
        """The first complaint of the fleet, and the first claim once the fault was over; both from its beginning."""
        self.detect += [at - fault_at for at in chaos.logged("ledger_lost", fault_at)[:1]]
        first = chaos.value("SELECT min(at) FROM chaos.history WHERE status_before = 'queued'"
                            " AND status = 'running' AND at > %s", at_time(since))  # fmt: skip
        assert first is not None, "nothing was claimed after the fault"
        self.resume.append(first.timestamp() - fault_at)
