"""`holdfast worker`: worker processes under a supervisor, for one application."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

import typer

from holdfast.app import Holdfast, new_id
from holdfast.cli.loading import load_app
from holdfast.cli.options import DatabaseUrl, DataDir, open_database, read_settings, setting
from holdfast.cli.service import (
    describe_sqs,
    describe_stop,
    describe_watches,
    require_sqs,
    require_unix,
    show_start,
    start_logging,
    supervise,
)
from holdfast.cli.specs import monitor_spec, worker_specs
from holdfast.cli.tagged import with_tagged_bell
from holdfast.config import Settings
from holdfast.errors import ConfigurationError

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
    require_sqs(settings)
    settings = with_tagged_bell(settings)
    loaded = load_app(reference)
    settings = settings.model_copy(update={"queues": loaded.served_queues(settings)})
    if database_url is None and data_dir is None:
        settings = with_database_of(loaded, settings)
    start_logging(settings)
    kinds_served = loaded.served_kinds(settings)
    database = open_database(settings)
    try:
        show_start(
            [
                ("database", database.describe()),
                ("app", f"{reference} with {describe_kinds(kinds_served)}"),
                *describe_schedules(loaded),
                ("workers", describe_workers(settings)),
                *(describe_watches(settings) if settings.monitors else ()),
                *describe_sqs(settings),
                ("stop", describe_stop(settings)),
            ],
            database.dsn,
        )
        supervisor_id = new_id()
        specs = worker_specs(settings, reference, database.dsn, supervisor_id)
        if settings.monitors:
            specs.append(monitor_spec(settings, database.dsn, dlq=True, rings=True))
        clean = asyncio.run(
            supervise("worker", specs, settings, kinds_served, database=database, supervisor_id=supervisor_id)
        )
    finally:
        database.release()
    raise typer.Exit(0 if clean else 1)


def choose_app(argument: str | None, option: str | None) -> str | None:
    """The application, given as an argument or as `--app`."""
    if argument and option and argument != option:
        raise ConfigurationError(f"two applications are given, {argument} and --app {option}; name one of them")
    return argument or option or None


def with_database_of(app: Holdfast, settings: Settings) -> Settings:
    """An application that names its database in its code enqueues there, so that is where its workers look."""
    own = app.settings
    return settings.model_copy(update={"database_url": own.database_url, "data_dir": own.data_dir})


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
