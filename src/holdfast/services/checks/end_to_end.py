"""Does a job go all the way, how long does each step take, and is a death really told? For `--e2e`.

One canary is sent and timed by the ledger's own clock. Then one that must die, with a cause that there was never before
(so that it is an incident of its own), until the notice of it was delivered; people do receive that. No dead job stays.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from uuid import UUID

from holdfast.core.findings import Finding, Verdict
from holdfast.core.health import Report
from holdfast.postgres import calls, reads
from holdfast.postgres.examine import forget_canary, notices_of_death
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.checks.canaries import make_canary, send_canaries
from holdfast.services.checks.deployment import Deployment

NAMES: Mapping[str, str] = {"e2e.timing": "end to end", "e2e.death": "end to end"}
_COMPONENT = "end to end"
#: Seconds that a claim takes at most where all is well.
SLOW_CLAIM = 5.0


async def check_timing(deployment: Deployment, report: Report, new_id: Callable[[], UUID]) -> Finding:
    """Send a canary, and tell how long enqueue, claim and finish took."""
    ledger, patience = deployment.ledger, deployment.patience.canary
    id, code = "e2e.timing", "enqueue, claim, finish"
    queue = _served(report)
    if queue is None:
        return Finding(id, _COMPONENT, Verdict.SKIP, "no live worker serves a queue that is not paused", code)
    job_id = new_id()
    began = time.monotonic()
    try:
        await send_canaries(ledger, [make_canary(job_id, queue)])
        wrote = time.monotonic() - began
        succeeded = await _ends(ledger, job_id, "succeeded", patience)
    except asyncio.CancelledError:
        await ledger.call(calls.cancel_jobs([job_id]))
        raise
    if not succeeded:
        await ledger.call(calls.cancel_jobs([job_id]))
        fix = "holdfast workers list; holdfast probe on their host"
        found = f"a canary through {queue} did not succeed within {patience:g} s"
        return Finding(id, _COMPONENT, Verdict.FAIL, found, code, fix)
    (job,) = await ledger.call(reads.job(job_id))
    assert job.claimed_at is not None
    assert job.finished_at is not None
    waited = (job.claimed_at - job.created_at).total_seconds()
    ran = (job.finished_at - job.claimed_at).total_seconds()
    found = (
        f"through {queue}: written in {wrote * 1000:.0f} ms, claimed after {waited:.3f} s, finished {ran:.3f} s later"
    )
    if waited > SLOW_CLAIM:
        fix = "more slots (--slots, --processes), or look at what keeps them busy: holdfast jobs list --status running"
        return Finding(id, _COMPONENT, Verdict.WARN, found, code, fix)
    return Finding(id, _COMPONENT, Verdict.PASS, found, code)


async def check_death(deployment: Deployment, report: Report, new_id: Callable[[], UUID]) -> Finding:
    """Send a canary that must die, and wait until the notice of its death was delivered."""
    ledger, patience = deployment.ledger, deployment.patience
    id, code = "e2e.death", "a death is collected, becomes an incident, and is told"
    queue = _served(report)
    if queue is None:
        return Finding(id, _COMPONENT, Verdict.SKIP, "no live worker serves a queue that is not paused", code)
    job_id, began = new_id(), time.monotonic()
    # Letters only: digits would be taken out of its fingerprint.
    word = "".join(chr(ord("a") + number % 26) for number in secrets.token_bytes(8))
    try:
        await send_canaries(ledger, [make_canary(job_id, queue, f'{{"dies_{word}": true}}')])
        if not await _ends(ledger, job_id, "dead", patience.canary):
            fix = "holdfast jobs list --kind holdfast.canary, then: holdfast jobs show ID"
            found = f"a canary that must die did not within {patience.canary:g} s"
            return Finding(id, _COMPONENT, Verdict.FAIL, found, code, fix)
        return await _told(deployment, job_id, began, id, code)
    finally:
        await ledger.call(calls.cancel_jobs([job_id]))
        await ledger.call(forget_canary(job_id))


async def _told(deployment: Deployment, job_id: UUID, began: float, id: str, code: str) -> Finding:
    patience = deployment.patience.notice
    end = time.monotonic() + patience
    while True:
        notices = await deployment.ledger.call(notices_of_death(job_id))
        if notices and all(notice.delivered_at for notice in notices):
            channels = ", ".join(notice.channel for notice in notices)
            found = f"told by {channels} {time.monotonic() - began:.0f} s after it was written"
            return Finding(id, _COMPONENT, Verdict.PASS, found, code)
        if time.monotonic() > end:
            break
        await asyncio.sleep(0.25)
    failed = [f"{notice.channel}: {notice.error or 'not tried yet'}" for notice in notices if not notice.delivered_at]
    found = f"its death was not told within {patience:g} s: {'; '.join(failed) or 'no incident was opened'}"
    fix = "does the alerter run (holdfast monitor dlq, or a worker with monitors), and is SLACK_WEBHOOK_URL right?"
    return Finding(
        id, _COMPONENT, Verdict.FAIL, found, code, f"{fix} holdfast doctor --only alerts --send-test tries it"
    )


def _served(report: Report) -> str | None:
    served = [queue.name for queue in report.queues if queue.workers and not queue.paused]
    return served[0] if served else None


async def _ends(ledger: AsyncLedger, job_id: UUID, status: str, patience: float) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for outcome in await ledger.call(reads.job_outcomes([job_id])):
            return outcome.status == status
        await asyncio.sleep(0.05)
    return False
