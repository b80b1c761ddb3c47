"""How healthy a deployment is: each check judged from what was seen, with the reason in words. No I/O, no clock.

A look at the ledger that is too old tells nothing: what it would have told is then not known, and that is no pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.core.health import (
    Check,
    Incident,
    Ledger,
    Limiter,
    Limits,
    Monitor,
    Notifications,
    Pool,
    Postgres,
    Process,
    Queue,
    Report,
    Severity,
    SqsQueue,
    Stale,
    Status,
)
from holdfast.core.histogram import quantile

#: Which look each check is judged by; `ping` and `process` are no parts of a report.
LOOK_OF: Mapping[str, str] = {
    "database": "ping",
    "schema": "ping",
    "workers": "workers",
    "queues": "queues",
    "ringer": "queues",
    "jobs": "jobs",
    "stale_jobs": "stale",
    "dead_letters": "dead",
    "incidents": "told",
    "monitors": "monitors",
    "notifications": "told",
    "sqs": "process",
    "rate_limits": "process",
    "pool": "process",
}
_CRITICAL = {"database", "schema", "workers", "queues", "monitors"}
SEVERITIES: Mapping[str, Severity] = {
    name: Severity.CRITICAL if name in _CRITICAL else Severity.DEGRADED for name in LOOK_OF
}


def judge(
    ledger: Ledger,
    report: Report,
    process: Process,
    limits: Limits,
    ages: Callable[[str], float | None] = lambda _: 0.0,
) -> tuple[Check, ...]:
    """All checks, in the order of `LOOK_OF`. `ages` tells how old each part of the report is, in seconds; None: never
    seen."""
    found: dict[str, Callable[[], Check | None]] = {
        "database": lambda: _database(ledger, None if _is_old(ages("server"), limits) else report.postgres, limits),
        "schema": lambda: _schema(ledger),
        "workers": lambda: _workers(report, limits),
        "queues": lambda: _queues(report, limits),
        "ringer": lambda: _ringer(report, process.sqs, limits),
        "jobs": lambda: _jobs(report),
        "stale_jobs": lambda: _stale_jobs(report.stale),
        "dead_letters": lambda: _dead_letters(report),
        "incidents": lambda: _incidents(report.incidents),
        "monitors": lambda: _monitors(report.monitors),
        "notifications": lambda: _notifications(report.notifications, process.channels),
        "sqs": lambda: _sqs(process.sqs) if process.sqs else None,
        "rate_limits": lambda: None if process.limiter is None else _limiter(process.limiter),
        "pool": lambda: None if process.pool is None else _pool(process.pool),
    }
    checks = []
    for name, look in LOOK_OF.items():
        age = 0.0 if look in ("ping", "process") else ages(look)
        check = _unknown(name, age) if _is_old(age, limits) else found[name]()
        if check is not None:
            checks.append(replace(check, severity=SEVERITIES[name]))
    return tuple(checks)


def _is_old(age: float | None, limits: Limits) -> bool:
    return age is None or age > limits.blind_after


def _unknown(name: str, age: float | None) -> Check:
    return Check(name, Status.FAIL, f"not known: {'never seen' if age is None else f'last seen {age:.0f} s ago'}")


def _verdict(name: str, observed: Mapping[str, Any], *, fails: Sequence[str] = (), warns: Sequence[str] = ()) -> Check:
    status = Status.FAIL if fails else Status.WARN if warns else Status.PASS
    return Check(name, status, _few([*fails, *warns]), observed)


def _few(reasons: Sequence[str], most: int = 5) -> str:
    more = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + more


def _schema(ledger: Ledger) -> Check:
    observed = {"version": ledger.schema_version, "expected": ledger.expected}
    return _verdict("schema", observed, fails=[ledger.schema] if ledger.schema else [])


def _database(ledger: Ledger, postgres: Postgres | None, limits: Limits) -> Check:
    observed: dict[str, Any] = {}
    warns = []
    if ledger.round_trip is not None:
        observed["round_trip_ms"] = round(ledger.round_trip * 1000, 2)
        if ledger.round_trip > limits.slow_ping:
            warns.append(f"it took {ledger.round_trip * 1000:.0f} ms to answer")
    if postgres is not None:
        observed |= {
            "version": postgres.version,
            "connections": postgres.connections,
            "max_connections": postgres.max_connections,
            "oldest_transaction_s": round(postgres.oldest_transaction, 1),
        }
        if postgres.standbys or postgres.replication_lag is not None:
            observed |= {"standbys": postgres.standbys, "replication_lag_s": postgres.replication_lag}
        if (postgres.replication_lag or 0.0) > limits.replication_lag:
            warns.append(f"a standby is {postgres.replication_lag:.0f} s behind")
        if postgres.connections > 0.9 * postgres.max_connections:
            warns.append(f"{postgres.connections} of {postgres.max_connections} connections are taken")
        if postgres.oldest_transaction > 300:
            warns.append(
                f"a transaction has been open for {postgres.oldest_transaction:.0f} s, which slows every queue"
            )
    return _verdict("database", observed, fails=[ledger.problem] if ledger.problem else [], warns=warns)


def _workers(report: Report, limits: Limits) -> Check:
    workers = report.workers
    observed = {
        "live": workers.live,
        "idle": workers.idle,
        "lost_within_the_hour": workers.lost,
        "silent": workers.silent,
        "draining": workers.draining,
        "slots": workers.slots,
        "running": report.running,
        "longest_loop_lag_s": round(workers.longest_lag, 3),
    }
    waited = max((queue.due_for or 0.0 for queue in report.queues if not queue.paused), default=0.0)
    is_needed = waited > limits.restart_within
    fails = ["no worker lives, and jobs are due"] if workers.live == 0 and is_needed else []
    warns = ["no worker lives"] if workers.live == 0 and not is_needed else []
    if workers.silent:
        warns.append(f"{workers.silent} gave no sign of life for longer than they may")
    if workers.longest_lag > 5:
        warns.append(f"an event loop lags {workers.longest_lag:.0f} s")
    return _verdict("workers", observed, fails=fails, warns=warns)


def _sqs(queues: Sequence[SqsQueue]) -> Check:
    """Its outage stops no job: the ledger is polled. Bells and the watch over dead letters stand still meanwhile."""
    fails = [f"SQS queue {queue.name} ({queue.role}): {queue.problem}" for queue in queues if queue.problem]
    seen = {
        queue.name: {"role": queue.role, "visible": queue.visible, "in_flight": queue.in_flight} for queue in queues
    }
    return _verdict("sqs", seen, fails=fails)


def _queues(report: Report, limits: Limits) -> Check:
    fails: list[str] = []
    warns: list[str] = []
    for queue in report.queues:
        waited = queue.due_for
        if queue.paused or waited is None:
            continue
        if waited > limits.unserved_after and queue.workers == 0:
            # A queue that was never served is most often a mistyped one: no reason to call all of it ill.
            told = fails if queue.asked_ago is not None else warns
            told.append(f"{queue.name}: a job has been due for {waited:.0f} s, and no worker serves this queue")
        elif waited > limits.unserved_after and queue.room and _long_ago(queue.asked_ago, limits.unserved_after):
            fails.append(f"{queue.name}: a job has been due for {waited:.0f} s, and no worker asks for it")
        else:
            own = limits.queues.get(queue.name, limits.queue)
            told = fails if own.fail_after is not None and waited > own.fail_after else warns
            if waited > own.warn_after:
                told.append(f"{queue.name}: a job has been due for {waited:.0f} s")
    for unknown in report.unknown_kinds:
        if unknown.due_for > limits.unserved_after and report.workers.live:
            warns.append(f"{unknown.queue}: no worker of this queue knows kind {unknown.kind!r:.80}, which is due")
    observed: dict[str, Any] = {queue.name: _observed_queue(queue) for queue in report.queues}
    return _verdict("queues", observed, fails=fails, warns=warns)


def _observed_queue(queue: Queue) -> dict[str, Any]:
    return {
        "queued": queue.queued if queue.queued <= queue.counted_to else f"more than {queue.counted_to}",
        "running": queue.running,
        "workers": queue.workers,
        "oldest_due_s": None if queue.due_for is None else round(queue.due_for, 1),
        "longest_run_s": None if queue.longest_run is None else round(queue.longest_run, 1),
        "paused": queue.paused,
    }


def _long_ago(ago: float | None, seconds: float) -> bool:
    return ago is None or ago > seconds


def _ringer(report: Report, sqs: Sequence[SqsQueue], limits: Limits) -> Check:
    """Bells that nobody hears: queues with due jobs that were rung and not claimed from since."""
    unheard = [
        queue.rung_ago
        for queue in report.queues
        if queue.due_for is not None
        and not queue.paused
        and queue.rung_ago is not None
        and (queue.asked_ago is None or queue.asked_ago > queue.rung_ago)
    ]
    longest = max(unheard, default=0.0)
    observed = {"queues_unheard": len(unheard), "longest_s": round(longest, 1)}
    is_used = any(queue.role == "bells" for queue in sqs)
    warns = [f"{len(unheard)} queues were rung, and nobody came for {longest:.0f} s"]
    return _verdict("ringer", observed, warns=warns if is_used and longest > limits.bell_after else [])


def _jobs(report: Report) -> Check:
    ended = report.ended
    all_of_them = ended.succeeded + ended.dead + ended.cancelled
    observed = {
        "queued": sum(queue.queued for queue in report.queues),
        "running": report.running,
        "last_hour": {
            "within_s": None if ended.since is None else round(ended.since),
            "succeeded": ended.succeeded,
            "failed_attempts": ended.failed,
            "dead": ended.dead,
            "cancelled": ended.cancelled,
        },
        "wait_s": _percentiles(ended.waits),
        "run_s": _percentiles(ended.runs),
    }
    mostly = all_of_them >= 20 and ended.dead * 2 > all_of_them
    warns = [f"{ended.dead} of the {all_of_them} jobs that ended within the hour ended dead"] if mostly else []
    return _verdict("jobs", observed, warns=warns)


def _percentiles(counts: Sequence[int | None]) -> dict[str, float | None] | None:
    if not any(counts):
        return None
    return {name: quantile(counts, q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def _stale_jobs(stale: Stale) -> Check:
    reasons = ", ".join(f"{many} {reason}" for reason, many in sorted(stale.reasons.items()))
    warns = [f"{stale.count} running jobs are stuck: {reasons}"] if stale.count else []
    return _verdict("stale_jobs", {"count": stale.count, "reasons": dict(stale.reasons)}, warns=warns)


def _dead_letters(report: Report) -> Check:
    recent = report.ended.dead
    observed = {
        "jobs": _counted(report.dead),
        "of_the_last_hour": recent,
        "messages_in_dead_letter_queues": _counted(report.letters),
    }
    warns = [f"{recent} jobs ended dead within the last hour: holdfast jobs list --status dead"] if recent else []
    return _verdict("dead_letters", observed, warns=warns)


def _counted(number: int, upto: int = 1000) -> int | str:
    return number if number <= upto else f"more than {upto}"


def _incidents(incidents: Sequence[Incident]) -> Check:
    warns = [f"{incident.title}, open for {incident.open_for / 60:.0f} min" for incident in incidents]
    return _verdict("incidents", {"open": len(incidents) if len(incidents) < 20 else "20 or more"}, warns=warns)


def _notifications(notifications: Notifications, channels: Sequence[str]) -> Check:
    observed = {
        "channels": list(channels),
        "waiting": notifications.waiting,
        "failing": notifications.failing,
        "oldest_s": round(notifications.oldest, 1),
    }
    warns = []
    if notifications.failing:
        warns.append(f"{notifications.failing} could not be delivered yet: {notifications.last_error}")
    elif notifications.oldest > 120:
        warns.append(f"{notifications.waiting} wait since {notifications.oldest:.0f} s, and nobody delivers them")
    return _verdict("notifications", observed, warns=warns)


def _monitors(monitors: Sequence[Monitor]) -> Check:
    fails, warns = [], []
    rhythmic = [monitor for monitor in monitors if monitor.every is not None]
    for monitor in rhythmic:
        every, ago = monitor.every or 0.0, monitor.swept_ago
        if ago is None or ago > 10 * every + 30:
            fails.append(f"{monitor.name} {_last_sweep(ago)}; it is meant to sweep each {every:g} s")
        elif ago > 3 * every + 5:
            warns.append(f"{monitor.name} {_last_sweep(ago)}; it is meant to sweep each {every:g} s")
    if not rhythmic:
        fails.append("no monitor has ever swept: stuck jobs stay stuck until a worker runs")
    if any(monitor.is_held for monitor in monitors):
        warns.append("the brake holds: silent workers are not declared gone for now")
    observed = {
        monitor.name: {
            "every_s": monitor.every,
            "last_sweep_s_ago": None if monitor.swept_ago is None else round(monitor.swept_ago, 1),
        }
        for monitor in monitors
    }
    return _verdict("monitors", observed, fails=fails, warns=warns)


def _last_sweep(ago: float | None) -> str:
    return "has never swept" if ago is None else f"swept last {ago:.0f} s ago"


def _limiter(limiter: Limiter) -> Check:
    observed = {
        "mode": limiter.mode,
        "mode_for_s": round(limiter.mode_for, 1),
        "admitted": limiter.admitted,
        "refused": limiter.refused,
        "identities": limiter.identities,
        "debtors": limiter.debtors,
    }
    warns = []
    if limiter.mode == "memory":
        why = "lacks what the limiter needs; see: holdfast doctor" if limiter.lacks_schema else "does not answer"
        warns.append(f"limits are kept in this process's memory, since the ledger {why}")
    if limiter.is_full:
        warns.append("the table of identities is full, so that new ones share places")
    return _verdict("rate_limits", observed, warns=warns)


def _pool(pool: Pool) -> Check:
    observed = {"size": pool.size, "taken": pool.taken, "waiting": pool.waiting}
    warns = [f"all {pool.size} connections for requests are taken, and {pool.waiting} requests wait for one"]
    return _verdict("pool", observed, warns=warns if pool.waiting and pool.taken >= pool.size else [])
