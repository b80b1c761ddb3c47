"""A service in the foreground: processes under a supervisor, until a signal; found by `holdfast probe` and `verify`."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from rich.text import Text

from holdfast.app import new_id
from holdfast.cli.options import here
from holdfast.cli.output import pairs, show
from holdfast.cli.specs import is_loopback
from holdfast.cli.systemd import Systemd
from holdfast.config import Settings, settings_fingerprint
from holdfast.core.liveness import find_stuck
from holdfast.errors import ConfigurationError, DatabaseError
from holdfast.events import Sinks
from holdfast.instrument.logs import LogSink, quieten
from holdfast.postgres.database import Database
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.presence import Introduction, list_services
from holdfast.services.local_server import LocalServerKeeper
from holdfast.services.presence import Presence
from holdfast.services.probe import answering, run_dir
from holdfast.services.restarts import find_old
from holdfast.services.supervisor import ChildSpec, Supervisor, SupervisorSettings
from holdfast.sqs.client import queue_name
from holdfast.sqs.connection import is_installed

if TYPE_CHECKING:
    from holdfast.instrument.supervised import SupervisorMetrics

#: A worker says something each second; a busy machine may keep it from that for a few.
SHORTEST_SILENCE = 5.0


def require_unix() -> None:
    """Process groups, descriptors handed to children, SIGKILL: the supervisor needs them."""
    if os.name != "posix" or not hasattr(os, "fork"):
        raise ConfigurationError("workers need Linux or macOS; run them there, or in a container")


def require_sqs(settings: Settings) -> None:
    """Where queues of SQS are set, the client must be there."""
    of_tables = any(watch.queue_url for watch in settings.watch)
    wanted = settings.bell_routes() or settings.watched_queue_url or settings.dlq_urls or of_tables
    if wanted and not is_installed():
        raise ConfigurationError(
            "SQS queues are set, which needs the extra `sqs`: pip install 'holdfast[sqs]'; where its pins clash, boto3"
        )


def describe_sqs(settings: Settings) -> list[tuple[str, str]]:
    """A line with the SQS queues that have a part in this, if any."""
    own, bells = settings.watched_queue_url, settings.bell_routes().urls()
    rung = [f"queue {queue_name(url)} is rung for idle workers" for url in bells]
    watched = [f"queue {queue_name(own)} is watched, never rung"] if own and own not in bells else []
    return [("sqs", "; ".join(rung + watched))] if rung or watched else []


def describe_watches(settings: Settings) -> list[tuple[str, str]]:
    """A line with the tables of other programs that are watched, if any."""
    tables = [f"{watch.table} ({watch.action} after {watch.stale_after:g} s)" for watch in settings.watch]
    return [("tables", ", ".join(tables))] if tables else []


def describe_alerts(settings: Settings) -> str:
    """Where incidents are told."""
    names = {"slack": "Slack", "webhook": "your webhook", "pagerduty": "PagerDuty", "apprise": "Apprise"}
    found = [names[each] for each in settings.alert_addresses().channels if each != "log"]
    return ", ".join(found) or "the log only (set SLACK_WEBHOOK_URL for Slack)"


def start_logging(settings: Settings) -> None:
    """Log lines to standard error, in the form that the worker processes use."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )
    quieten()


def show_start(lines: Sequence[tuple[str, str]], dsn: str) -> None:
    """The first lines: what runs, and where."""
    old = [("restart", reason) for reason in _old_services(dsn)]
    lines = [*lines, *old]
    show(Text(f"Holdfast {version('holdfast')}", "bold"), pairs([(name, Text(value)) for name, value in lines]))


def _old_services(dsn: str) -> list[str]:
    """Services that run with other settings than the files say now."""
    ledger = SyncLedger(dsn, name="holdfast start", deadline=5.0)
    try:
        return find_old(ledger.call(list_services()), here())
    except DatabaseError:
        return []
    finally:
        ledger.close()


def describe_stop(settings: Settings) -> str:
    """How this is ended."""
    return f"Ctrl-C, or: kill {os.getpid()} (running jobs get {settings.drain_timeout:g} s to finish)"


async def supervise(
    name: str,
    specs: Sequence[ChildSpec],
    settings: Settings,
    kinds: Mapping[str, object],
    *,
    database: Database,
    supervisor_id: UUID,
    address: str | None = None,
    sweep: bool = True,
) -> bool:
    """Keep the processes running until a signal, and the local server if there is one; whether they ended cleanly.

    `name` is what this service is called where people see it: in the ledger, and by `holdfast probe`.
    """
    from holdfast.instrument.supervised import SupervisorMetrics  # its package takes a while to import

    metrics = SupervisorMetrics()
    sinks = Sinks([LogSink(), metrics])
    listener = _probe_listener(settings)
    supervisor = Supervisor(
        database.dsn,
        specs,
        SupervisorSettings(
            drain_timeout=settings.drain_timeout,
            silence=max(settings.worker_settings().timings.exit_after, SHORTEST_SILENCE),
            stale_after=settings.stale_after,
            sweep_interval=settings.sweep_interval,
            queues=settings.queues,
            kinds=tuple(kinds),
            sweep=sweep,
        ),
        supervisor_id=supervisor_id,
        new_id=new_id,
        sinks=sinks,
    )
    metrics.processes, metrics.counts = supervisor.processes, supervisor.counts
    stop = _Stop(supervisor, settings)
    presence = Presence(database.dsn, introduce(name, supervisor_id, settings, address))
    with stop.on_signals():
        async with (
            _kept(database, sinks),
            _beside(presence.run()),
            _beside(_told_to_systemd(supervisor, specs)),
            _probe(settings, name, supervisor, address),
            _http_probe(settings, supervisor, specs, metrics, listener),
        ):
            await supervisor.run()
    show("killed" if stop.asked > 1 else "stopped")
    return stop.asked < 2


@contextlib.asynccontextmanager
async def _kept(database: Database, sinks: Sinks) -> AsyncIterator[None]:
    if database.server is None:
        yield
        return
    async with _beside(LocalServerKeeper(database.server, sinks).run()):
        yield


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Runs while the block does, and is cancelled at its end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _told_to_systemd(supervisor: Supervisor, specs: Sequence[ChildSpec]) -> Coroutine[object, object, None]:
    """Ready with all of its processes, alive while each makes progress."""
    expected = sum(not spec.on_demand for spec in specs)

    def begun() -> bool:
        return sum(each.has_begun and not each.is_on_demand for each in supervisor.processes()) >= expected

    return Systemd().accompany(begun, lambda: not find_stuck(supervisor.processes()), lambda: supervisor.is_stopping)


def _probe(
    settings: Settings, name: str, supervisor: Supervisor, address: str | None
) -> contextlib.AbstractAsyncContextManager[None]:
    """Without a folder for its socket a service runs all the same: only `holdfast probe` does not find it."""
    try:
        return answering(run_dir(settings.run_dir), name, supervisor.processes, address)
    except ConfigurationError as error:
        logging.getLogger("holdfast").warning("no answers to holdfast probe: %s", error)
        return contextlib.nullcontext()


def _probe_listener(settings: Settings) -> socket.socket | None:
    """Bound before anything is started, so that a port which is taken is told at once."""
    if settings.probe_port is None:
        return None
    from holdfast.web.server import bind

    return bind(settings.probe_host, settings.probe_port, what="the probe server", settings="HOLDFAST_PROBE_PORT")


def _http_probe(
    settings: Settings,
    supervisor: Supervisor,
    specs: Sequence[ChildSpec],
    metrics: "SupervisorMetrics",
    listener: socket.socket | None,
) -> contextlib.AbstractAsyncContextManager[None]:
    if listener is None:
        return contextlib.nullcontext()
    from holdfast.web.probes import Service, probing

    host, port = listener.getsockname()[:2]
    logging.getLogger("holdfast").info("probes answer on %s port %d: /livez /readyz /startupz", host, port)
    expected = sum(not spec.on_demand for spec in specs)
    shown = metrics.registry if settings.probe_metrics or is_loopback(host) else None
    return probing(listener, Service(supervisor.processes, expected, lambda: supervisor.is_stopping, shown))


def introduce(name: str, id: UUID, settings: Settings, address: str | None) -> Introduction:
    """What this service says of itself."""
    folder = Path.cwd()
    return Introduction(
        id=id,
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=version("holdfast"),
        folder=str(folder),
        settings_hash=settings_fingerprint(folder),
        address=address,
        bell_url=settings.sqs_queue_url,
    )


class _Stop:
    """What a signal does: the first drains, the second kills."""

    def __init__(self, supervisor: Supervisor, settings: Settings) -> None:
        self.asked = 0
        self._supervisor = supervisor
        self._settings = settings

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """A signal that is ignored stays ignored: nohup, or a shell's background job."""
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        numbers = [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, self._ask)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _ask(self) -> None:
        self.asked += 1
        if self.asked == 1:
            show(f"stopping: running jobs get {self._settings.drain_timeout:g} s to finish; once more kills them")
        self._supervisor.stop()
