"""Do workers live, and have the monitors swept within their interval?"""

from holdfast.core.findings import Finding, Verdict
from holdfast.core.health import Monitor, Report

#: What people call the monitors.
NAMES = {
    "rescue_stale_jobs": "stale job monitor",
    "prune": "pruner",
    "collect_dead_jobs": "dead job monitor",
    "watch_dead_letters": "DLQ monitor",
    "watch_health": "health monitor",
    "deliver_notifications": "alerter",
}
_FIX = "holdfast up APP, holdfast worker APP, or a service of its own: holdfast monitor stale, holdfast monitor dlq"


def check_workers(report: Report) -> Finding:
    """Whether at least one lives."""
    workers = report.workers
    code = "each beats every 5 s, and is gone after 25 s of silence"
    if workers.live == 0:
        return Finding(
            "workers.live", "workers", Verdict.FAIL, "none lives", code, "holdfast up APP, or holdfast worker APP"
        )
    found = f"{workers.live} live with {workers.slots} slots, {report.running} jobs running"
    if workers.silent:
        fix = "look at: holdfast workers list; they are declared gone by themselves, unless the brake holds"
        return Finding("workers.live", "workers", Verdict.WARN, f"{found}; {workers.silent} silent", code, fix)
    return Finding("workers.live", "workers", Verdict.PASS, found, code)


def check_monitors(report: Report, *, has_queues: bool) -> list[Finding]:
    """Whether each monitor keeps its rhythm; that of dead-letter queues only where there are queues to watch."""
    found = {monitor.name: monitor for monitor in report.monitors}
    return [_check_monitor(name, found.get(key)) for key, name in names(has_queues=has_queues).items()]


def names(*, has_queues: bool) -> dict[str, str]:
    """The monitors that are looked for, and what people call them."""
    return {key: name for key, name in NAMES.items() if has_queues or key != "watch_dead_letters"}


def id_of(name: str) -> str:
    """The id of a monitor's line."""
    return f"monitors.{name.replace(' ', '_')}"


def _check_monitor(name: str, monitor: Monitor | None) -> Finding:
    id = id_of(name)
    if monitor is None or monitor.every is None or monitor.swept_ago is None:
        return Finding(id, name, Verdict.FAIL, "has never swept", "runs beside every worker", _FIX)
    code = f"sweeps each {monitor.every:g} s, in one process over all"
    found = f"swept {monitor.swept_ago:.0f} s ago"
    if monitor.swept_ago > 3 * monitor.every + 5:
        return Finding(id, name, Verdict.FAIL, f"{found}, which is too long", code, _FIX)
    if monitor.is_held:
        return Finding(id, name, Verdict.WARN, f"{found}; the brake holds", code, "wait 25 s, and look again")
    return Finding(id, name, Verdict.PASS, found, code)
