"""How healthy a deployment is: each check judged from what was seen, with the reason in words. No I/O, no clock.

A look at the ledger that is too old tells nothing: what it would have told is then not known, and that is no pass.
The checks are in core/work_checks.py and core/support_checks.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from holdfast.core import support_checks, work_checks
from holdfast.core.health import Check, Ledger, Limits, Process, Report, Severity, Status

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
        "database": lambda: support_checks.judge_database(
            ledger, None if _is_old(ages("server"), limits) else report.postgres, limits
        ),
        "schema": lambda: support_checks.judge_schema(ledger),
        "workers": lambda: work_checks.judge_workers(report, limits),
        "queues": lambda: work_checks.judge_queues(report, limits),
        "ringer": lambda: work_checks.judge_ringer(report, process.sqs, limits),
        "jobs": lambda: work_checks.judge_jobs(report),
        "stale_jobs": lambda: work_checks.judge_stale_jobs(report.stale),
        "dead_letters": lambda: work_checks.judge_dead_letters(report),
        "incidents": lambda: support_checks.judge_incidents(report.incidents),
        "monitors": lambda: support_checks.judge_monitors(report.monitors),
        "notifications": lambda: support_checks.judge_notifications(report.notifications, process.channels),
        "sqs": lambda: support_checks.judge_sqs(process.sqs) if process.sqs else None,
        "rate_limits": lambda: None if process.limiter is None else support_checks.judge_limiter(process.limiter),
        "pool": lambda: None if process.pool is None else support_checks.judge_pool(process.pool),
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
