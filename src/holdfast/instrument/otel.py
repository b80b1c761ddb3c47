"""Traces and metrics for OpenTelemetry, by its conventions for messaging (1.44). Off unless `HOLDFAST_OTEL` asks.

A job is a message: enqueueing is a span `send QUEUE` of a producer, whose context travels on the job's row, so that it
survives rescues and redrives; each run is a span `process QUEUE` of a consumer, linked to it, or its child where
`HOLDFAST_OTEL_TRACE` says parent. Attributes name queue, kind and job, never arguments or results.
"""

import contextlib
import os
import time
from collections.abc import Awaitable, Collection, Iterator, Sequence
from importlib.metadata import version
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from holdfast.core.histogram import BOUNDS

SYSTEM = "holdfast"
_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_propagator = TraceContextTextMapPropagator()

Attributes = dict[str, str | int]


class Job(Protocol):
    """What is told of a job that runs."""

    @property
    def id(self) -> UUID: ...
    @property
    def queue(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def lease(self) -> int: ...
    @property
    def attempts(self) -> int: ...
    @property
    def traceparent(self) -> str | None: ...


class End(Protocol):
    """What is told of how a run ended."""

    @property
    def outcome(self) -> str: ...
    @property
    def fingerprint(self) -> str | None: ...


E = TypeVar("E", bound=End)


class Telemetry:
    """Spans and measurements of one process, over whichever providers are in force."""

    def __init__(self, mode: Literal["link", "parent"] = "link") -> None:
        self._mode = mode
        self._tracer = trace.get_tracer("holdfast", version("holdfast"), schema_url=_SCHEMA)
        meter = metrics.get_meter("holdfast", version("holdfast"), schema_url=_SCHEMA)
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Jobs that were enqueued.")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}", "Runs that began.")
        # The advised bounds end at 10 s; jobs take longer.
        self._calls = meter.create_histogram("messaging.client.operation.duration", "s", "How long enqueueing took.")
        self._runs = meter.create_histogram(
            "messaging.process.duration", "s", "How long runs took.", explicit_bucket_boundaries_advisory=list(BOUNDS)
        )

    @contextlib.contextmanager
    def sending(self, queues: Collection[str], many: int) -> Iterator[str | None]:
        """The context (traceparent) of a producer's span, which lasts while so many jobs are written."""
        about = _attributes("send", next(iter(queues)) if len(queues) == 1 else None)
        batch: Attributes = {"messaging.batch.message_count": many} if many != 1 else {}
        began = time.perf_counter()
        error: dict[str, str] = {}
        try:
            with self._tracer.start_as_current_span(
                _name(about), kind=SpanKind.PRODUCER, attributes={**about, **batch}
            ):
                carrier: dict[str, str] = {}
                _propagator.inject(carrier)
                yield carrier.get("traceparent")
        except BaseException as failed:
            error = {"error.type": type(failed).__name__}
            raise
        finally:
            self._calls.record(time.perf_counter() - began, {**about, **error})
            self._sent.add(many, {**about, **error})

    async def processing(self, job: Job, run: Awaitable[E | None]) -> E | None:
        """What a run comes to, in a consumer's span."""
        about = _attributes("process", job.queue)
        self._consumed.add(1, about)
        sender = _sender(job)
        began, outcome = time.perf_counter(), "cancelled"
        with self._tracer.start_as_current_span(
            _name(about),
            context=sender[0] if sender and self._mode == "parent" else None,
            links=[sender[1]] if sender and self._mode == "link" else [],
            kind=SpanKind.CONSUMER,
            attributes={
                **about,
                "messaging.message.id": str(job.id),
                "holdfast.job.kind": job.kind,
                "holdfast.job.lease": job.lease,
                "holdfast.job.attempt": job.attempts + 1,
            },
        ) as span:
            try:
                settlement = await run
                outcome = "complete" if settlement is None else settlement.outcome
                _end(span, settlement)
                return settlement
            finally:
                span.set_attribute("holdfast.job.outcome", outcome)
                failed = {"error.type": "failed"} if outcome == "fail" else {}
                self._runs.record(time.perf_counter() - began, {**about, "holdfast.job.kind": job.kind, **failed})

    def heard(self, queue: str, traces: Sequence[str]) -> None:
        """Bells were received from a queue of SQS: a span of a moment, linked to the enqueueings that rang them."""
        about = {**_attributes("receive", queue), "messaging.system": "aws_sqs"}
        links = [link for _, link in filter(None, map(_context, traces))]
        count = {"messaging.batch.message_count": len(traces)}
        with self._tracer.start_as_current_span(
            _name(about), links=links, kind=SpanKind.CLIENT, attributes={**about, **count}
        ):
            return


def _attributes(operation: Literal["send", "receive", "process"], queue: str | None) -> Attributes:
    found: Attributes = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    return found if queue is None else {**found, "messaging.destination.name": queue}


def _name(about: Attributes) -> str:
    return " ".join(
        str(about[key]) for key in ("messaging.operation.name", "messaging.destination.name") if key in about
    )


def _sender(job: Job) -> tuple[Context, Link] | None:
    return _context(job.traceparent) if job.traceparent else None


def _context(traceparent: str) -> tuple[Context, Link] | None:
    context = _propagator.extract({"traceparent": traceparent})
    found = trace.get_current_span(context).get_span_context()
    return (context, Link(found)) if found.is_valid else None


def _end(span: Span, settlement: End | None) -> None:
    """Of a failure its fingerprint is told: an error's text may quote what is secret."""
    if settlement is not None and settlement.outcome == "fail":
        span.set_attribute("error.type", settlement.fingerprint or "failed")
        span.set_status(Status(StatusCode.ERROR))


def set_up(service: str) -> None:
    """Send to an OTLP collector, as the standard variables say (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, ...).

    A program that has providers of its own keeps them.
    """
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create() if named else Resource.create({"service.name": service})
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=5)))
        trace.set_tracer_provider(tracers)
    if not isinstance(metrics.get_meter_provider(), MeterProvider):
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(timeout=5))
        metrics.set_meter_provider(MeterProvider([reader], resource=resource))


def shut_down() -> None:
    """Send what is left, within a few seconds."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
        end = getattr(provider, "shutdown", None)
        if end is not None:
            end()
