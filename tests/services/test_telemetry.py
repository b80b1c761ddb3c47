"""OpenTelemetry, into the SDK's own memory: a producer's span, the consumer's linked to it, and measurements."""

from uuid import uuid4

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from holdfast import Holdfast, Settings
from holdfast.core.bell import BellRoutes
from holdfast.events import JobFailed
from holdfast.instrument.otel import Telemetry
from holdfast.sqs.client import Sqs, queue_name
from holdfast.telemetry import telemetry
from tests.services.helpers import until, working
from tests.sqs.local import LocalSqs
from tests.support import Session, row

SPANS, READER = InMemorySpanExporter(), InMemoryMetricReader()


@pytest.fixture(scope="module", autouse=True)
def _providers() -> None:
    """The API takes providers once in a process."""
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([READER]))


@pytest.fixture
def spans() -> InMemorySpanExporter:
    SPANS.clear()
    return SPANS


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


def app(database: str, **given: object) -> Holdfast:
    return Holdfast(settings=Settings.model_validate({"database_url": database, **given}))


@pytest.mark.parametrize("mode", ["link", "parent"])
async def test_a_run_knows_the_span_that_enqueued_it(
    database: str, conn: Session, spans: InMemorySpanExporter, mode: str
) -> None:
    hf = app(database, otel=True, otel_trace=mode)
    inside: list[int] = []

    @hf.job(queue="mail")
    async def report() -> None:
        inside.append(trace.get_current_span().get_span_context().span_id)

    async with working(database, hf, telemetry=Telemetry("parent" if mode == "parent" else "link")):
        await (await report.enqueue()).result(timeout=30)
    sent, ran = named(spans, "send mail"), named(spans, "process mail")
    assert (sent.kind, ran.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert sent.context is not None
    assert ran.context is not None
    assert inside == [ran.context.span_id], "a handler's own spans are below its run's"
    if mode == "parent":
        assert ran.parent is not None
        assert (ran.parent.span_id, ran.context.trace_id) == (sent.context.span_id, sent.context.trace_id)
    else:
        assert [link.context.span_id for link in ran.links] == [sent.context.span_id]
        assert ran.context.trace_id != sent.context.trace_id
    assert ran.attributes is not None
    assert dict(ran.attributes) == {
        "messaging.system": "holdfast",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(row(conn, "SELECT id FROM holdfast.jobs")["id"]),
        "holdfast.job.kind": "report",
        "holdfast.job.lease": 1,
        "holdfast.job.attempt": 1,
        "holdfast.job.outcome": "complete",
    }
    await hf.close()


async def test_a_bell_over_sqs_carries_the_trace_that_rang_it_and_its_hearing_is_a_span(
    database: str, conn: Session, spans: InMemorySpanExporter, sqs: LocalSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sqs.bell.WAIT", 1)
    client = Sqs(sqs.url("any"))
    url = await client.create(f"traced-{uuid4().hex[:8]}", {}, {"holdfast": "bell"})
    hf = app(database, otel=True, sqs_queue_url=url)

    @hf.job(queue="mail")
    async def report() -> None:
        pass

    async with working(database, hf, telemetry=Telemetry(), bells=BellRoutes(url)):
        await (await report.enqueue()).result(timeout=30)
        name = f"receive {queue_name(url)}"
        await until(lambda: name in [span.name for span in spans.get_finished_spans()])
    sent, heard = named(spans, "send mail"), named(spans, name)
    assert sent.context is not None
    assert heard.attributes is not None
    assert [link.context.span_id for link in heard.links] == [sent.context.span_id]
    assert heard.attributes["messaging.system"] == "aws_sqs"
    stored = row(conn, "SELECT traceparent FROM holdfast.jobs")["traceparent"]
    assert stored.split("-")[2] == f"{sent.context.span_id:016x}"
    await hf.close()
    await client.close()


async def test_a_failure_is_an_error_without_its_words(database: str, spans: InMemorySpanExporter) -> None:
    hf = app(database, otel=True)

    @hf.job(max_attempts=1)
    async def dies() -> None:
        raise ValueError("the password is hunter2")

    async with working(database, hf, telemetry=Telemetry()) as running:
        await dies.enqueue()
        await until(lambda: running.recorder.of(JobFailed))
    ran = named(spans, "process default")
    assert ran.status.status_code is StatusCode.ERROR
    assert ran.attributes is not None
    assert ran.attributes["error.type"]
    assert "hunter2" not in ran.to_json()
    await hf.close()


async def test_runs_are_measured_with_bounds_that_fit_jobs(database: str) -> None:
    hf = app(database, otel=True)

    @hf.job(queue="measured")
    async def report() -> None:
        pass

    async with working(database, hf, telemetry=Telemetry()):
        await (await report.enqueue()).result(timeout=30)
    data = READER.get_metrics_data()
    assert data is not None
    found = {each.name: each for scope in data.resource_metrics[0].scope_metrics for each in scope.metrics}
    assert set(found) == {
        "messaging.client.sent.messages", "messaging.client.consumed.messages",
        "messaging.client.operation.duration", "messaging.process.duration",
    }  # fmt: skip
    points = [
        each
        for each in found["messaging.process.duration"].data.data_points
        if (each.attributes or {}).get("messaging.destination.name") == "measured"
    ]
    assert [(point.count, point.explicit_bounds[-1]) for point in points] == [(1, 3600.0)]  # type: ignore[union-attr]
    await hf.close()


async def test_it_is_off_unless_it_is_asked_for(database: str, conn: Session, spans: InMemorySpanExporter) -> None:
    hf = app(database)

    @hf.job()
    async def report() -> None:
        pass

    await report.enqueue()
    assert telemetry(hf.settings, "holdfast-worker") is None
    assert spans.get_finished_spans() == ()
    assert row(conn, "SELECT traceparent FROM holdfast.jobs")["traceparent"] is None
    await hf.close()
