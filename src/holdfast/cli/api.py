"""`holdfast api`: the HTTP API alone."""

import asyncio

import typer

from holdfast.app import new_id
from holdfast.cli import worker as workers
from holdfast.cli.dashboard import sign_in_link
from holdfast.cli.loading import load_app
from holdfast.cli.options import DatabaseUrl, DataDir, open_database, read_settings
from holdfast.cli.service import (
    describe_stop,
    require_sqs,
    require_unix,
    show_start,
    start_logging,
    supervise,
)
from holdfast.cli.specs import api_spec
from holdfast.cli.tagged import with_tagged_bell
from holdfast.cli.up import Host, Port, address_of, free_port, require_keys


def api(
    app: workers.App = None,
    *,
    app_option: workers.AppOption = None,
    host: Host = None,
    port: Port = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    log_level: workers.LogLevel = None,
) -> None:
    """Run the HTTP API alone; with an application it checks the arguments of its jobs.

    Ends cleanly on SIGTERM and Ctrl-C; the second one kills.
    """
    settings = read_settings(
        database_url, data_dir, app=workers.choose_app(app, app_option), host=host, port=port, log_level=log_level
    )
    require_unix()
    require_sqs(settings)
    settings = with_tagged_bell(settings)
    kinds = load_app(settings.app).kinds if settings.app else {}
    settings = settings.model_copy(update={"port": free_port(settings)})
    start_logging(settings)
    database = open_database(settings)
    try:
        require_keys(settings, database.dsn)
        known = workers.describe_kinds(kinds) if settings.app else "none given: every kind is accepted"
        show_start(
            [
                ("database", database.describe()),
                ("api", f"{address_of(settings)}  /api/jobs /api/health /livez /readyz /startupz /metrics"),
                ("dashboard", f"{sign_in_link(settings.model_copy(update={'url': None}), database.dsn)}  (once)"),
                ("app", known),
                ("stop", describe_stop(settings)),
            ],
            database.dsn,
        )
        clean = asyncio.run(
            supervise(
                "api",
                [api_spec(settings, settings.app, database.dsn)],
                settings,
                kinds,
                database=database,
                supervisor_id=new_id(),
                address=address_of(settings),
                sweep=False,
            )
        )
    finally:
        database.release()
    raise typer.Exit(0 if clean else 1)
