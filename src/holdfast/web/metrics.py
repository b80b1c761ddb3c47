"""What `/metrics` shows: the deployment, as the health watch saw it last, and this process.

A scrape asks nobody and costs the ledger nothing. Totals are counted in the ledger (see the functions count_events and
note_job_stats), so they survive restarts, and each instance of the API shows the same ones: scrape them from one.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from holdfast.core import metrics
from holdfast.core.access import Permission
from holdfast.core.health import JobTotal, LetterQueue, LimitTotal, Monitor, Queue, Report, SqsQueue, Status, Workers
from holdfast.core.metrics import Scope
from holdfast.instrument.exposition import histogram, render, value, values
from holdfast.web.auth import require
from holdfast.web.limiter_metrics import LimiterMetrics
from holdfast.web.problems import Problem
from holdfast.web.services import ApiServices

router = APIRouter()

_WORTH = {Status.PASS: 1.0, Status.WARN: 0.5, Status.FAIL: 0.0}


@router.get("/metrics", dependencies=[Depends(require(Permission.METRICS))], include_in_schema=False)
async def scrape(request: Request, scope: str = "") -> Response:
    """Everything for Prometheus, or one scope of it: read from a snapshot, no I/O."""
    registries: Mapping[str, CollectorRegistry] = request.app.state.metrics
    if scope not in registries:
        raise Problem(400, f"scope is {scope!r:.40}; there are cluster and process, and all without it")
    text, media_type = render(registries[scope], request.headers.get("accept", ""))
    return Response(text, media_type=media_type, headers={"Cache-Control": "no-store"})


def registries(services: ApiServices) -> dict[str, CollectorRegistry]:
    """What is shown, by scope; the one without a name shows all."""
    cluster, process, limiter = ClusterMetrics(services), ProcessMetrics(services), LimiterMetrics(services.limiter)
    parts: dict[str, Sequence[Collector]] = {
        Scope.CLUSTER: [cluster],
        Scope.PROCESS: [process, limiter],
        "": [cluster, process, limiter],
    }
    made = {scope: CollectorRegistry(auto_describe=False) for scope in parts}
    for scope, collectors in parts.items():
        for collector in collectors:
            made[scope].register(collector)
    return made


class ClusterMetrics(Collector):
    """The deployment. What was not seen for a while is not shown: an old number is worse than none."""

    def __init__(self, services: ApiServices) -> None:
        self._watch = services.watch
        self._sqs = services.sqs

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        report, knows = self._watch.seen, self._watch.knows
        yield value(metrics.LEDGER_UP, float(knows("monitors")))
        if knows("queues"):
            yield from _queues(report.queues)
        if knows("stale"):
            yield values(metrics.STALE, [([reason], many) for reason, many in report.stale.reasons.items()])
        if knows("dead"):
            yield value(metrics.DEAD, min(report.dead, 1000))
            yield from _letters(report.letter_queues)
        if knows("workers"):
            yield from _workers(report.workers)
        if knows("jobs"):
            yield from _jobs(report.totals)
        if knows("monitors"):
            yield from _monitors(report.monitors, report.clock)
        if knows("told"):
            yield from _told(report)
        if knows("limits"):
            yield _limits(report.rate_limits)
        if knows("server"):
            yield from _server(report)
        yield values(metrics.SCHEMA, self._schema())
        yield values(metrics.SQS, [each for queue in self._sqs.seen for each in _sqs(queue)])

    def _schema(self) -> list[tuple[tuple[str, str], float]]:
        applied, expected = self._watch.schema
        return [] if applied is None else [((str(applied), str(expected)), 1.0)]


class ProcessMetrics(Collector):
    """This process of the API."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        watch = self._services.watch
        yield values(metrics.BUILD, [([version("holdfast")], 1.0)])
        yield value(metrics.LOOP_LAG, watch.loop_lag)
        yield values(metrics.ENQUEUED, self._services.counts.of(metrics.ENQUEUED))
        size, taken, waiting = self._services.ledger.usage()
        yield values(metrics.POOL, [(["taken"], taken), (["free"], size - taken)])
        yield value(metrics.POOL_WAITING, waiting)
        yield values(metrics.CHECK, [([check.name], _WORTH[check.status]) for check in watch.health().checks])
        looks = [look for look in watch.looks() if look.name != "process"]
        yield values(metrics.LOOK_SECONDS, [([look.name], look.took) for look in looks])
        ages = [(look.name, watch.age(look.name)) for look in looks]
        yield values(metrics.LOOK_AGE, [([name], age) for name, age in ages if age is not None])


def _queues(queues: Sequence[Queue]) -> Iterator[Metric]:
    counted = [(queue.name, status, number) for queue in queues for status, number in _by_status(queue)]
    yield values(metrics.JOBS, [([name, status], number) for name, status, number in counted])
    yield values(metrics.OLDEST_DUE, [([queue.name], queue.due_for or 0.0) for queue in queues])
    yield values(metrics.LONGEST_RUN, [([queue.name], queue.longest_run or 0.0) for queue in queues])
    yield values(metrics.LONGEST_SILENCE, [([queue.name], queue.longest_silence or 0.0) for queue in queues])
    yield values(metrics.QUEUE_PAUSED, [([queue.name], float(queue.paused)) for queue in queues])


def _letters(queues: Sequence[LetterQueue]) -> Iterator[Metric]:
    yield values(metrics.LETTERS, [([queue.name], min(queue.letters, 1000)) for queue in queues])
    yield values(metrics.OLDEST_LETTER, [([queue.name], queue.oldest) for queue in queues])


def _by_status(queue: Queue) -> list[tuple[str, int]]:
    return [("queued", min(queue.queued, queue.counted_to)), ("running", queue.running)]


def _workers(workers: Workers) -> Iterator[Metric]:
    states = {"busy": max(workers.live - workers.idle, 0), "idle": workers.idle, "silent": workers.silent}
    yield values(metrics.WORKERS, [([state], number) for state, number in states.items()])
    yield value(metrics.WORKERS_DRAINING, workers.draining)
    yield value(metrics.WORKERS_LOST, workers.lost)
    yield value(metrics.SLOTS, workers.slots)
    yield value(metrics.LONGEST_LAG, workers.longest_lag)


def _jobs(totals: Sequence[JobTotal]) -> Iterator[Metric]:
    outcomes = [
        ([total.queue, total.kind, outcome], getattr(total, outcome))
        for total in totals
        for outcome in ("succeeded", "failed", "dead", "cancelled")
    ]
    yield values(metrics.SETTLED, outcomes)
    yield histogram(metrics.WAIT, [([total.queue, total.kind], total.waits, total.waited) for total in totals])
    yield histogram(metrics.RUN, [([total.queue, total.kind], total.runs, total.ran) for total in totals])


def _monitors(monitors: Sequence[Monitor], clock: datetime) -> Iterator[Metric]:
    swept = [(each.name, clock - timedelta(seconds=each.swept_ago)) for each in monitors if each.swept_ago is not None]
    yield values(metrics.SWEPT, [([name], at.timestamp()) for name, at in swept])
    yield value(metrics.BRAKE, float(any(monitor.is_held for monitor in monitors)))
    for monitor in monitors:
        if monitor.name == "count_events":
            yield from _events(monitor.last_result.get("totals") or {})


def _events(totals: Mapping[str, int]) -> Iterator[Metric]:
    apart = ("false_rescue", "fenced_late_write")
    events = [(key.partition("/"), count) for key, count in sorted(totals.items()) if key not in apart]
    yield values(metrics.EVENTS, [([event, reason], count) for (event, _, reason), count in events])
    yield value(metrics.FALSE_RESCUES, totals.get("false_rescue", 0))
    yield value(metrics.FENCED, totals.get("fenced_late_write", 0))


def _told(report: Report) -> Iterator[Metric]:
    told = report.notifications
    yield value(metrics.INCIDENTS, len(report.incidents))
    states = {"new": told.waiting - told.failing, "failing": told.failing}
    yield values(metrics.NOTIFICATIONS, [([state], number) for state, number in states.items()])


def _limits(limits: Sequence[LimitTotal]) -> Metric:
    return values(metrics.LIMITS, [([each.policy, each.source, each.outcome], each.decisions) for each in limits])


def _server(report: Report) -> Iterator[Metric]:
    yield value(metrics.CONNECTIONS, report.postgres.connections)
    yield value(metrics.MAX_CONNECTIONS, report.postgres.max_connections)
    yield value(metrics.OLDEST_TRANSACTION, report.postgres.oldest_transaction)
    yield value(metrics.REPLICATION_LAG, report.postgres.replication_lag or 0.0)


def _sqs(queue: SqsQueue) -> list[tuple[list[str], float]]:
    seen = {"visible": queue.visible, "in_flight": queue.in_flight}
    return [([queue.name, queue.role, state], number) for state, number in seen.items() if number is not None]
