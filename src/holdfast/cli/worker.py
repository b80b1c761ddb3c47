"""`holdfast worker`: worker processes under a supervisor, for one application."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Annotated
from uuid import UUID

import typer
from rich.text import Text

from holdfast.app import Holdfast, new_id
from holdfast.cli.child import ChildPlan, command
from holdfast.cli.loading import load_app
from holdfast.cli.options import DatabaseUrl, DataDir, open_database, read_settings, setting
from holdfast.cli.output import pairs, show
from holdfast.config import Settings
from holdfast.errors import ConfigurationError
from holdfast.events import Sinks
from holdfast.instrument.logs import LogSink
from holdfast.postgres.database import Database
from holdfast.services.local_server import LocalServerKeeper
from holdfast.services.supervisor import ChildSpec, Supervisor, SupervisorSettings

#: A worker says something each second; a busy machine may keep it from that for a few.
SHORTEST_SILENCE = 5.0

App = Annotated[
    str | None,
    typer.Argument(metavar="APP", show_default=False, help="Your application as module:attribute, e.g. tasks:hf."),
]
AppOption = Annotated[
    str | None, typer.Option("--app", metavar="APP", show_default=False, help="The same, as an option.")
]
Queues = Annotated[str | None, setting("queues", metavar="A,B")]
Kinds = Annotated[str | None, setting("kinds", metavar="A,B")]
Slots = Annotated[int | None, setting("slots")]
Processes = Annotated[int | None, setting("processes")]
Poll = Annotated[float | None, setting("poll")]
DrainTimeout = Annotated[float | None, setting("drain_timeout")]
LogLevel = Annotated[str | None, setting("log_level", metavar="LEVEL")]


def worker(
    app: App = None,
    *,
    app_option: AppOption = None,
    queues: Queues = None,
    kinds: Kinds = None,
    slots: Slots = None,
    processes: Processes = None,
    poll: Poll = None,
    drain_timeout: DrainTimeout = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    log_level: LogLevel = None,
) -> None:
    """Run the jobs of an application.

    Ends cleanly on SIGTERM and Ctrl-C; the second one kills.
    """
    settings = read_settings(
        database_url, data_dir, app=choose_app(app, app_option), queues=queues, kinds=kinds, slots=slots,
        processes=processes, poll=poll, drain_timeout=drain_timeout, log_level=log_level,
    )  # fmt: skip
    reference = settings.app
    if reference is None:
        raise ConfigurationError(
            "no application: name it as module:attribute, for example: holdfast worker tasks:hf (or set HOLDFAST_APP)"
        )
    require_unix()
    loaded = load_app(reference)
    settings = settings.model_copy(update={"queues": loaded.served_queues(settings)})
    if database_url is None and data_dir is None:
        settings = with_database_of(loaded, settings)
    start_logging(settings)
    kinds_served = loaded.served_kinds(settings)
    database = open_database(settings)
    try:
        announce(
            [
                ("database", database.describe()),
                ("app", f"{reference} with {describe_kinds(kinds_served)}"),
                *describe_schedules(loaded),
                ("workers", describe_workers(settings)),
                ("stop", describe_stop(settings)),
            ]
        )
        supervisor_id = new_id()
        specs = worker_specs(settings, reference, database.dsn, supervisor_id)
        clean = asyncio.run(supervise(specs, settings, kinds_served, database, supervisor_id))
    finally:
        database.release()
    raise typer.Exit(0 if clean else 1)


def require_unix() -> None:
    """Process groups, descriptors handed to children, SIGKILL: the supervisor needs them."""
    if os.name != "posix":
        raise ConfigurationError("workers need Linux or macOS; run them there, or in a container")


def choose_app(argument: str | None, option: str | None) -> str | None:
    """The application, given as an argument or as `--app`."""
    if argument and option and argument != option:
        raise ConfigurationError(f"two applications are given, {argument} and --app {option}; name one of them")
    return argument or option or None


def with_database_of(app: Holdfast, settings: Settings) -> Settings:
    """An application that names its database in its code enqueues there, so that is where its workers look."""
    own = app.settings
    return settings.model_copy(update={"database_url": own.database_url, "data_dir": own.data_dir})


def start_logging(settings: Settings) -> None:
    """Log lines to standard error, in the form that the worker processes use."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )


def worker_specs(settings: Settings, app: str, dsn: str, supervisor_id: UUID) -> list[ChildSpec]:
    """One process to keep alive for each of `processes`, and the one that exists only while there are suspects."""
    told = settings.model_copy(update={"database_url": None}).model_dump_json()

    def spec(name: str, *, quarantine: bool) -> ChildSpec:
        def start(worker_id: UUID, link: int) -> tuple[Sequence[str], Mapping[str, str]]:
            plan = ChildPlan(str(worker_id), str(supervisor_id), link, app, dsn, told, quarantine=quarantine)
            return command(plan)

        return ChildSpec(name, start, on_demand=quarantine)

    workers = [spec(f"worker-{number + 1}", quarantine=False) for number in range(settings.processes)]
    return [*workers, spec("quarantine", quarantine=True)]


async def supervise(
    specs: Sequence[ChildSpec], settings: Settings, kinds: Mapping[str, object], database: Database, supervisor_id: UUID
) -> bool:
    """Keep the processes running until a signal, and the local server if there is one; whether they ended cleanly."""
    sinks = Sinks([LogSink()])
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
        ),
        supervisor_id=supervisor_id,
        new_id=new_id,
        sinks=sinks,
    )
    stop = _Stop(supervisor, settings)
    with stop.on_signals():
        async with _kept(database, sinks):
            await supervisor.run()
    show("killed" if stop.asked > 1 else "stopped")
    return stop.asked < 2


@contextlib.asynccontextmanager
async def _kept(database: Database, sinks: Sinks) -> AsyncIterator[None]:
    if database.server is None:
        yield
        return
    keeping = asyncio.create_task(LocalServerKeeper(database.server, sinks).run())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


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


def announce(lines: Sequence[tuple[str, str]]) -> None:
    """The first lines: what runs, and where."""
    show(Text(f"Holdfast {version('holdfast')}", "bold"), pairs([(name, Text(value)) for name, value in lines]))


def describe_kinds(kinds: Mapping[str, object], most: int = 6) -> str:
    """The first few of an application's kinds."""
    if not kinds:
        return "no kinds of job"
    names = sorted(kinds)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} kind{'s' * (len(names) > 1)} of job: {', '.join(names[:most])}{more}"


def describe_schedules(app: Holdfast, most: int = 6) -> list[tuple[str, str]]:
    """A line with the first few of an application's schedules, if it has any."""
    found = [f"{name} ({each.schedule.cron} {each.schedule.time_zone})" for name, each in sorted(app.periodics.items())]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return [("schedules", f"{', '.join(found[:most])}{more}")] if found else []


def describe_workers(settings: Settings) -> str:
    """How many, and on which queues."""
    many = "es" * (settings.processes > 1)
    queues = f"queue{'s' * (len(settings.queues) > 1)} {', '.join(settings.queues)}"
    return f"{settings.processes} process{many} with {settings.slots} slots each, on {queues}"


def describe_stop(settings: Settings) -> str:
    """How this is ended."""
    return f"Ctrl-C, or: kill {os.getpid()} (running jobs get {settings.drain_timeout:g} s to finish)"
