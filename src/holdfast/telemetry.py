"""Whether and how this process tells of itself by OpenTelemetry: off unless the settings ask for it."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from holdfast.config import Settings
from holdfast.errors import ConfigurationError
from holdfast.postgres.calls import NewJob

if TYPE_CHECKING:
    from holdfast.instrument.otel import Telemetry


def telemetry(settings: Settings, service: str) -> "Telemetry | None":
    """For a process of ours: providers are set up, unless the program has its own. None where it is off.

    Raises `ConfigurationError` where it is asked for and its packages are missing.
    """
    if not settings.otel:
        return None
    made = _telemetry(settings.otel_trace)
    from holdfast.instrument.otel import set_up

    set_up(service)
    return made


@contextlib.contextmanager
def sending(settings: Settings, jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    """The jobs with the context of a span that lasts while they are written; its providers are the program's own."""
    with _telemetry(settings.otel_trace).sending({job.queue for job in jobs}, len(jobs)) as context:
        yield [job._replace(traceparent=job.traceparent or context) for job in jobs]


@cache
def _telemetry(mode: Literal["link", "parent"]) -> "Telemetry":
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        raise ConfigurationError("HOLDFAST_OTEL is set, which needs the extra `otel`: pip install 'holdfast[otel]'")
    from holdfast.instrument.otel import Telemetry

    return Telemetry(mode)
