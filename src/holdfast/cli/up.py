"""`holdfast up`: everything on this machine under one supervisor: database, API, workers."""

import asyncio
import importlib.util
from typing import Annotated

import typer

from holdfast.app import new_id
from holdfast.cli import worker as workers
from holdfast.cli.dashboard import sign_in_link
from holdfast.cli.loading import load_app
from holdfast.cli.local_sqs import LocalSqsPlan, local_sqs_spec, prepare
from holdfast.cli.options import DatabaseUrl, DataDir, open_database, read_settings, setting
from holdfast.cli.service import (
    describe_alerts,
    describe_sqs,
    describe_stop,
    describe_watches,
    require_sqs,
    require_unix,
    show_start,
    start_logging,
    supervise,
)
from holdfast.cli.specs import api_spec, is_loopback, monitor_spec, worker_specs
from holdfast.cli.tagged import with_tagged_bell
from holdfast.config import Settings
from holdfast.errors import ConfigurationError
from holdfast.postgres.database import Database
from holdfast.postgres.keys import list_api_keys
from holdfast.postgres.ledger import SyncLedger
from holdfast.sqs.client import queue_name

DEMO = "holdfast.cli.demo_kinds:hf"

Host = Annotated[str | None, setting("host")]
Port = Annotated[int | None, setting("port")]


def up(
    app: workers.App = None,
    *,
    app_option: workers.AppOption = None,
    queues: workers.Queues = None,
    slots: workers.Slots = None,
    processes: workers.Processes = None,
    drain_timeout: workers.DrainTimeout = None,
    host: Host = None,
    port: Port = None,
    sqs: Annotated[bool, typer.Option("--sqs", help="Also run a local SQS server, and ring bells over it.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    log_level: workers.LogLevel = None,
) -> None:
    """Run everything here: database, API, workers.

    The database is a local one unless DATABASE_URL is set. Ends cleanly on SIGTERM and Ctrl-C; the second one kills.
    """
    settings = read_settings(
        database_url, data_dir, app=workers.choose_app(app, app_option), queues=queues, slots=slots,
        processes=processes, drain_timeout=drain_timeout, host=host, port=port, log_level=log_level,
    )  # fmt: skip
    require_unix()
    local_sqs = prepare_sqs(settings) if sqs else None
    if local_sqs is not None:
        settings = settings.model_copy(update={"sqs_queue_url": local_sqs.url})
    settings = with_tagged_bell(settings)
    require_sqs(settings)
    reference = settings.app or DEMO
    loaded = load_app(reference)
    if settings.app is not None and database_url is None and data_dir is None:
        settings = workers.with_database_of(loaded, settings)
    settings = settings.model_copy(update={"port": free_port(settings), "queues": loaded.served_queues(settings)})
    start_logging(settings)
    database = open_database(settings)
    try:
        require_keys(settings, database.dsn)
        served = loaded.served_kinds(settings)
        link = sign_in_link(settings.model_copy(update={"url": None}), database.dsn)
        lines = _lines(settings, link, database, workers.describe_kinds(served), workers.describe_schedules(loaded))
        show_start(lines, database.dsn)
        supervisor_id = new_id()
        specs = [local_sqs_spec(local_sqs)] if local_sqs else []
        specs.append(api_spec(settings, reference, database.dsn))
        specs += worker_specs(settings, reference, database.dsn, supervisor_id)
        specs.append(monitor_spec(settings, database.dsn, dlq=True, rings=True))
        clean = asyncio.run(
            supervise(
                "up",
                specs,
                settings,
                served,
                database=database,
                supervisor_id=supervisor_id,
                address=address_of(settings),
            )
        )
    finally:
        database.release()
    raise typer.Exit(0 if clean else 1)


def prepare_sqs(settings: Settings) -> LocalSqsPlan:
    """A local SQS server, unless the settings name a queue already."""
    if settings.sqs_queue_url is not None:
        raise ConfigurationError(
            f"--sqs starts a server of its own, and HOLDFAST_SQS_QUEUE_URL names queue"
            f" {queue_name(settings.sqs_queue_url)!r}; give one of them"
        )
    return prepare()


def require_keys(settings: Settings, dsn: str) -> None:
    """Nothing listens beyond this machine unless there is a key, or an issuer's token, to ask for."""
    host = settings.host
    if is_loopback(host) or settings.takes_tokens:
        return
    ledger = SyncLedger(dsn, name="holdfast up")
    try:
        has_keys = bool(ledger.call(list_api_keys(limit=1)))
    finally:
        ledger.close()
    if not has_keys:
        raise ConfigurationError(
            f"host is {host!r}, which others may reach, and there is no API key yet; make one first"
            " (holdfast keys create NAME), or set the host to 127.0.0.1 (--host or HOLDFAST_HOST)"
        )


def free_port(settings: Settings) -> int:
    """The port, seen to be free before anything is started. Raises `ConfigurationError` with the way out."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "jinja2", "uvicorn", "prometheus_client")):
        raise ConfigurationError("holdfast up needs the extra `server`: pip install 'holdfast[server]'")
    from holdfast.web.server import bind

    with bind(settings.host, settings.port) as listener:
        port: int = listener.getsockname()[1]
    return port


def address_of(settings: Settings) -> str:
    """Where the API answers, as people type it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _lines(
    settings: Settings, link: str, database: Database, kinds: str, schedules: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    kept = " (kept when this stops)" if database.is_local else ""
    known = f"{settings.app} with {kinds}" if settings.app else "none given, so the demo's; yours: holdfast up tasks:hf"
    return [
        ("database", f"{database.describe()}{kept}"),
        ("api", f"{address_of(settings)}  /api/jobs /api/health /livez /readyz /startupz /metrics"),
        ("dashboard", f"{link}  (signs you in once; later: holdfast dashboard)"),
        ("app", known),
        *schedules,
        ("workers", workers.describe_workers(settings)),
        *describe_watches(settings),
        *describe_sqs(settings),
        ("alerts", describe_alerts(settings)),
        ("stop", describe_stop(settings)),
    ]
