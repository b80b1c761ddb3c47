"""Queues: how long they wait, and who serves them; pause and resume."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.postgres import reads
from holdfast.postgres.overview import QueueMinute, queue_series
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Form, Looking
from holdfast.web.dashboard.charts import spark
from holdfast.web.dashboard.rendering import done, render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter()

#: Queued jobs of each queue that the page counts.
MOST_COUNTED = 1000


@router.get("/queues")
async def queues(request: Request, caller: Looking) -> Response:
    """All queues, by name."""
    services = services_of(request)
    found = await services.ledger.call(reads.list_queues(most=MOST_COUNTED))
    minutes = await services.ledger.call(queue_series())
    lines = last_hour(minutes, datetime.now(UTC))
    sparks = {
        name: spark(values, label=f"{sum(values):,} jobs of {name} succeeded within the last hour")
        for name, values in lines.items()
    }
    return render(
        request, caller, "queues.html", title="Queues", queues=found, sparks=sparks, most=MOST_COUNTED,
        sums={name: sum(values) for name, values in lines.items()},
    )  # fmt: skip


@router.post("/queues/{action}")
async def change(request: Request, caller: Acting, given: Form, action: str) -> Response:
    """Pause a queue, or resume it. Jobs that run already go on."""
    if action not in ("pause", "resume"):
        raise Problem(404, "there is nothing at this address")
    name = given.get("queue", "")
    if not 1 <= len(name) <= 200:
        raise Problem(422, "which queue?")
    call = reads.pause_queues([name], paused=action == "pause")
    await audit_call(services_of(request), caller, call, f"queue.{action}", name)
    text = f"{name} is paused: its running jobs go on, no other begins." if action == "pause" else f"{name} goes on."
    return done(request, "queues", text)


def last_hour(minutes: list[QueueMinute], now: datetime) -> dict[str, list[int]]:
    """What succeeded in each of the last 60 minutes, by queue."""
    begins = now.replace(second=0, microsecond=0) - timedelta(minutes=59)
    found: dict[str, list[int]] = defaultdict(lambda: [0] * 60)
    for minute in minutes:
        place = int((minute.at - begins).total_seconds() // 60)
        if 0 <= place < 60:
            found[minute.queue][place] = minute.succeeded
    return found
