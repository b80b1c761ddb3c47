"""Does a job go all the way? A canary is sent through each queue that a live worker serves."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from holdfast.core.findings import Finding, Verdict
from holdfast.core.health import Report
from holdfast.core.kind import CANARY
from holdfast.postgres import calls, reads
from holdfast.services.checks.canaries import make_canary, send_canaries
from holdfast.services.checks.deployment import Deployment

_ID, _COMPONENT = "jobs.end_to_end", "jobs"
_CODE = "enqueue, claim, run, settle"
#: Queues that are tried.
MOST_QUEUES = 20


async def check_jobs(deployment: Deployment, report: Report, new_id: Callable[[], UUID]) -> Finding:
    """Send a canary through each queue, and wait for all."""
    ledger, patience = deployment.ledger, deployment.patience.canary
    served = [queue.name for queue in report.queues if queue.workers and not queue.paused]
    if not served:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, "no live worker serves a queue that is not paused", _CODE)
    tried = random.sample(served, min(len(served), MOST_QUEUES))
    began = time.monotonic()
    canaries = [make_canary(new_id(), queue) for queue in tried]
    waiting = {canary.id: canary.queue for canary in canaries}
    lost: list[str] = []
    try:
        await send_canaries(ledger, canaries)
        while waiting and time.monotonic() - began < patience:
            for outcome in await ledger.call(reads.job_outcomes(list(waiting))):
                queue = waiting.pop(outcome.id)
                if outcome.status != "succeeded":
                    lost.append(f"{queue}: {outcome.status}")
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        await ledger.call(calls.cancel_jobs(list(waiting)))
        raise
    seconds = time.monotonic() - began
    if waiting:
        await ledger.call(calls.cancel_jobs(list(waiting)))
        return _not_run({each.name: each.room for each in report.queues if each.name in waiting.values()}, patience)
    if lost:
        fix = f"holdfast jobs list --kind {CANARY}, then: holdfast jobs show ID"
        return Finding(_ID, _COMPONENT, Verdict.FAIL, f"a canary did not succeed: {'; '.join(lost)}", _CODE, fix)
    found = f"a canary through {_queues(tried)} succeeded in {seconds:.2f} s"
    return Finding(_ID, _COMPONENT, Verdict.PASS, found, _CODE)


def _not_run(room: Mapping[str, int], patience: float) -> Finding:
    # Where some had a free slot, those are what is wrong.
    queues = [queue for queue, free in room.items() if free] or list(room)
    found = f"a canary through {_queues(queues)} was accepted, and not run within {patience:g} s"
    if not any(room.values()):
        fix = "all slots are taken by other jobs: more of them (--slots, --processes), or wait"
        return Finding(_ID, _COMPONENT, Verdict.WARN, f"{found}: no slot was free", _CODE, fix)
    fix = "are the workers of this version, and not stuck? holdfast workers list; holdfast probe on their host"
    return Finding(_ID, _COMPONENT, Verdict.FAIL, found, _CODE, fix)


def _queues(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"queue{'s' * (len(names) > 1)} {', '.join(sorted(names)[:most])}{more}"
