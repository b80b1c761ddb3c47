"""A worker inside a program's own process, wired up."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from holdfast.config import Settings
from holdfast.core.kind import Kind
from holdfast.errors import ConfigurationError
from holdfast.events import Sinks
from holdfast.instrument.logs import LogSink
from holdfast.services.inside import InsideWorker
from holdfast.services.periodic import Periodic
from holdfast.services.worker import Worker


def inside_worker(
    settings: Settings,
    kinds: Mapping[str, Kind],
    queues: Sequence[str],
    periodics: Mapping[str, Periodic],
    dsn: str,
    *,
    new_id: Callable[[], UUID],
) -> InsideWorker:
    """Raises `ConfigurationError` for a kind that needs what is not there."""
    alone = next((kind.name for kind in kinds.values() if kind.isolation == "process"), None)
    if alone is not None and settings.app is None:
        raise ConfigurationError(
            f"{alone} has isolation 'process', and a process of its own must find it: set HOLDFAST_APP to"
            " module:attribute, for example tasks:hf, or run it by: holdfast worker"
        )
    sinks = Sinks([LogSink()])
    wanted = settings.worker_settings(queues=queues)

    def make(worker_id: UUID) -> Worker:
        return Worker(dsn, kinds, wanted, worker_id=worker_id, app=settings.app, periodics=periodics, sinks=sinks)

    return InsideWorker(make, new_id, sinks)
