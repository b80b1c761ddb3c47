"""Health in words: plain JSON, and health+json (draft-inadarei-api-health-check-06)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from holdfast.core.health import Check, Severity, Status
from holdfast.services.health import Health

#: What each check measures first: the measurement's name in the draft, where it is observed, its unit, and what it is.
_MEASURED: Mapping[str, tuple[str, str, str, str]] = {
    "database": ("responseTime", "round_trip_ms", "ms", "datastore"),
    "schema": ("version", "version", "", "datastore"),
    "workers": ("live", "live", "processes", "component"),
    "queues": ("depth", "", "", "component"),
    "ringer": ("backlog", "queues_unheard", "queues", "component"),
    "jobs": ("running", "running", "jobs", "component"),
    "stale_jobs": ("count", "count", "jobs", "component"),
    "dead_letters": ("count", "jobs", "jobs", "component"),
    "incidents": ("open", "open", "incidents", "component"),
    "monitors": ("sweeps", "", "", "component"),
    "notifications": ("waiting", "waiting", "notifications", "component"),
    "sqs": ("queues", "", "", "system"),
    "rate_limits": ("mode", "mode", "", "component"),
    "pool": ("utilization", "taken", "connections", "system"),
}


def describe(known: Health) -> dict[str, Any]:
    """The whole as plain JSON: an object of checks, each a list of one."""
    return {
        "status": known.status,
        "output": _output(known),
        "checks": {check.name: [describe_check(check, known)] for check in known.checks},
    }


def describe_check(check: Check, known: Health) -> dict[str, Any]:
    """One check as plain JSON."""
    found: dict[str, Any] = {"status": check.status, "severity": check.severity}
    if check.output:
        found["output"] = check.output
    if check.name in known.changed_at:
        found["changed_at"] = known.changed_at[check.name].isoformat(timespec="seconds")
    return {**found, "observed": check.observed}


def draft(known: Health) -> dict[str, Any]:
    """The whole as health+json."""
    body: dict[str, Any] = {
        "status": known.status,
        "version": "1",
        "releaseId": version("holdfast"),
        "serviceId": "holdfast",
        "description": "background jobs",
        "checks": {f"{check.name}:{_MEASURED[check.name][0]}": [draft_check(check, known)] for check in known.checks},
    }
    if known.status is not Status.PASS:
        body["output"] = _output(known)
    notes = [f"{check.name} does not count fully: it is {check.severity}" for check in known.checks if _is_soft(check)]
    return {**body, "notes": notes} if notes else body


def draft_check(check: Check, known: Health) -> dict[str, Any]:
    """One check as health+json."""
    _, where, unit, kind = _MEASURED[check.name]
    found: dict[str, Any] = {"componentType": kind, "status": check.status}
    if check.observed.get(where) is not None:
        found["observedValue"] = check.observed[where]
        found |= {"observedUnit": unit} if unit else {}
    found["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    if check.output and check.status is not Status.PASS:
        found["output"] = check.output
    if check.name in known.changed_at:
        found["changedAt"] = known.changed_at[check.name].isoformat(timespec="seconds")
    return {**found, "severity": check.severity, "observed": check.observed}


def _output(known: Health) -> str:
    return "; ".join(f"{check.name}: {check.output}" for check in known.checks if check.output)


def _is_soft(check: Check) -> bool:
    return check.status is Status.FAIL and check.severity is not Severity.CRITICAL
