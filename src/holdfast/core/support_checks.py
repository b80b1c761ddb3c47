"""The checks of what the work rests on: server, monitors, notifications, SQS, this process. No I/O, no clock."""

from collections.abc import Sequence
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
    SqsQueue,
)
from holdfast.core.verdicts import verdict


def judge_database(ledger: Ledger, postgres: Postgres | None, limits: Limits) -> Check:
    """Whether the server answers, and has room."""
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
    return verdict("database", observed, fails=[ledger.problem] if ledger.problem else [], warns=warns)


def judge_schema(ledger: Ledger) -> Check:
    """Whether the ledger's schema serves this version: a newer one does, and this process is to be replaced."""
    seen, ours = ledger.schema_version, ledger.expected
    fails, warns = [ledger.schema] if ledger.schema else [], []
    if seen is not None and ours is not None and seen > ours:
        warns.append(f"it is at {seen}, newer than {ours} of this process: start it from the new version")
    return verdict("schema", {"version": seen, "expected": ours}, fails=fails, warns=warns)


def judge_monitors(monitors: Sequence[Monitor]) -> Check:
    """Whether each monitor keeps its rhythm: one that has stopped is a failure."""
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
    return verdict("monitors", observed, fails=fails, warns=warns)


def _last_sweep(ago: float | None) -> str:
    return "has never swept" if ago is None else f"swept last {ago:.0f} s ago"


def judge_incidents(incidents: Sequence[Incident]) -> Check:
    """What is open."""
    warns = [f"{incident.title}, open for {incident.open_for / 60:.0f} min" for incident in incidents]
    return verdict("incidents", {"open": len(incidents) if len(incidents) < 20 else "20 or more"}, warns=warns)


def judge_notifications(notifications: Notifications, channels: Sequence[str]) -> Check:
    """Whether people are told."""
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
    return verdict("notifications", observed, warns=warns)


def judge_sqs(queues: Sequence[SqsQueue]) -> Check:
    """Its outage stops no job: the ledger is polled. Bells and the watch over dead letters stand still meanwhile."""
    fails = [f"SQS queue {queue.name} ({queue.role}): {queue.problem}" for queue in queues if queue.problem]
    seen = {
        queue.name: {"role": queue.role, "visible": queue.visible, "in_flight": queue.in_flight} for queue in queues
    }
    return verdict("sqs", seen, fails=fails)


def judge_limiter(limiter: Limiter) -> Check:
    """Whether limits are kept in Postgres."""
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
    return verdict("rate_limits", observed, warns=warns)


def judge_pool(pool: Pool) -> Check:
    """Whether requests wait for a connection, which is no outage."""
    observed = {"size": pool.size, "taken": pool.taken, "waiting": pool.waiting}
    warns = [f"all {pool.size} connections for requests are taken, and {pool.waiting} requests wait for one"]
    return verdict("pool", observed, warns=warns if pool.waiting and pool.taken >= pool.size else [])
