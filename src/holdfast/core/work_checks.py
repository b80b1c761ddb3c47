"""The checks of the work itself: workers, queues, jobs, and what became of them. No I/O, no clock."""

from collections.abc import Sequence
from typing import Any

from holdfast.core.health import Check, Limits, Queue, Report, SqsQueue, Stale
from holdfast.core.histogram import quantile
from holdfast.core.verdicts import verdict


def judge_workers(report: Report, limits: Limits) -> Check:
    """Whether anybody works."""
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
    return verdict("workers", observed, fails=fails, warns=warns)


def judge_queues(report: Report, limits: Limits) -> Check:
    """Whether due jobs are taken in time."""
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
    return verdict("queues", observed, fails=fails, warns=warns)


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


def judge_ringer(report: Report, sqs: Sequence[SqsQueue], limits: Limits) -> Check:
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
    return verdict("ringer", observed, warns=warns if is_used and longest > limits.bell_after else [])


def judge_jobs(report: Report) -> Check:
    """How jobs ended within the hour."""
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
    return verdict("jobs", observed, warns=warns)


def _percentiles(counts: Sequence[int | None]) -> dict[str, float | None] | None:
    if not any(counts):
        return None
    return {name: quantile(counts, q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def judge_stale_jobs(stale: Stale) -> Check:
    """Whether running jobs are stuck."""
    reasons = ", ".join(f"{many} {reason}" for reason, many in sorted(stale.reasons.items()))
    warns = [f"{stale.count} running jobs are stuck: {reasons}"] if stale.count else []
    return verdict("stale_jobs", {"count": stale.count, "reasons": dict(stale.reasons)}, warns=warns)


def judge_dead_letters(report: Report) -> Check:
    """Whether jobs went dead of late."""
    recent = report.ended.dead
    observed = {
        "jobs": _counted(report.dead),
        "of_the_last_hour": recent,
        "messages_in_dead_letter_queues": _counted(report.letters),
    }
    warns = [f"{recent} jobs ended dead within the last hour: holdfast jobs list --status dead"] if recent else []
    return verdict("dead_letters", observed, warns=warns)


def _counted(number: int, upto: int = 1000) -> int | str:
    return number if number <= upto else f"more than {upto}"
