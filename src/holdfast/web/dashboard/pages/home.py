"""Home: is it OK, since when, what broke."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.core.health import Check, Status
from holdfast.core.histogram import quantile
from holdfast.postgres.overview import dead_causes, longest_runs
from holdfast.services.health import Health
from holdfast.web.dashboard.access import Looking
from holdfast.web.dashboard.charts import outcome_chart
from holdfast.web.dashboard.rendering import render
from holdfast.web.dashboard.series import RANGES, SeriesCache
from holdfast.web.services import services_of

router = APIRouter()


@dataclass(frozen=True)
class Verdict:
    """How the whole is, since when, and the checks that do not pass."""

    status: Status
    since: datetime | None
    troubles: Sequence[Check]


def verdict(known: Health, opened_at: datetime | None = None) -> Verdict:
    """Pure: what the first line says. `opened_at`: of the oldest open incident, which outlives this process."""
    troubles = sorted(
        (check for check in known.checks if check.status is not Status.PASS),
        key=lambda check: (check.weight is not Status.FAIL, check.weight is not Status.WARN, check.name),
    )
    weighty = [check.name for check in troubles if check.weight is not Status.PASS]
    changed = [at for name, at in known.changed_at.items() if not weighty or name in weighty]
    if weighty and opened_at is not None:
        changed.append(opened_at)
    since = min(changed, default=None) if weighty else max(changed, default=None)
    return Verdict(known.status, since, troubles)


@router.get("/")
async def home(request: Request, caller: Looking, range: str = "1h") -> Response:
    """The whole at a glance."""
    services = services_of(request)
    watch, window = services.watch, RANGES.get(range, RANGES["1h"])
    known, seen = watch.health(), watch.seen
    series, hour = await _cache(request).read(window), await _cache(request).read(RANGES["1h"])
    causes = await services.ledger.call(dead_causes())
    runs = await services.ledger.call(longest_runs(5))
    now = datetime.now(UTC)
    opened = min((now - timedelta(seconds=each.open_for) for each in seen.incidents), default=None)
    chart = outcome_chart(
        series.buckets,
        step=window.bucket,
        label=f"Jobs over the last {window.label}: {series.succeeded:,} succeeded, {series.failed:,} attempts failed,"
        f" {series.dead:,} dead",
    )
    return render(
        request,
        caller,
        "home.html",
        title="Home",
        verdict=verdict(known, opened),
        known=known,
        seen=seen,
        knows=watch.knows,
        ranges=RANGES,
        window=window,
        series=series,
        hour=hour,
        chart=chart,
        causes=causes,
        runs=runs,
        queues=sorted(seen.queues, key=lambda queue: (-(queue.due_for or 0), queue.name))[:12],
        waits={q: quantile(seen.ended.waits, q) for q in (0.5, 0.95)},
        took={q: quantile(seen.ended.runs, q) for q in (0.5, 0.95)},
        oldest=max((queue.due_for or 0.0 for queue in seen.queues if not queue.paused), default=0.0),
        queued=sum(queue.queued for queue in seen.queues),
        is_more=any(queue.queued >= queue.counted_to for queue in seen.queues),
        since=lambda seconds: now - timedelta(seconds=seconds),
    )


def _cache(request: Request) -> SeriesCache:
    found = request.app.state.series
    assert isinstance(found, SeriesCache)
    return found
