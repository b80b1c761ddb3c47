"""`holdfast up`: everything on this machine under one supervisor: database, API, workers."""

import asyncio
import importlib.util
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated
from uuid import UUID

import typer

from holdfast.app import new_id
from holdfast.cli import worker as workers
from holdfast.cli.loading import load_app
from holdfast.cli.options import DatabaseUrl, DataDir, open_database, read_settings, setting
from holdfast.config import Settings
from holdfast.errors import ConfigurationError
from holdfast.postgres.database import Database
from holdfast.services.supervisor import ChildSpec

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
    workers.require_unix()
    require_loopback(settings.host)
    reference = settings.app or DEMO
    loaded = load_app(reference)
    if settings.app is not None and database_url is None and data_dir is None:
        settings = workers.with_database_of(loaded, settings)
    settings = settings.model_copy(update={"port": free_port(settings), "queues": loaded.served_queues(settings)})
    workers.start_logging(settings)
    database = open_database(settings)
    try:
        workers.announce(_lines(settings, database, workers.describe_kinds(loaded.kinds)))
        supervisor_id = new_id()
        specs = [api_spec(settings, database.dsn)]
        specs += workers.worker_specs(settings, reference, database.dsn, supervisor_id)
        clean = asyncio.run(workers.supervise(specs, settings, loaded.kinds, database, supervisor_id))
    finally:
        database.release()
    raise typer.Exit(0 if clean else 1)


def require_loopback(host: str) -> None:
    """Nothing listens beyond this machine before there is authentication."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(
            f"host is {host!r}, which others may reach, and the API has no authentication yet; "
            "set it to 127.0.0.1 (--host or HOLDFAST_HOST), and put a proxy that authenticates in front"
        )


def free_port(settings: Settings) -> int:
    """The port, seen to be free before anything is started. Raises `ConfigurationError` with the way out."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn", "prometheus_client")):
        raise ConfigurationError("holdfast up needs the extra `server`: pip install 'holdfast[server]'")
    from holdfast.cli.api_child import bind

    with bind(settings.host, settings.port) as listener:
        port: int = listener.getsockname()[1]
    return port


def api_spec(settings: Settings, dsn: str) -> ChildSpec:
    """The API's process."""
    from holdfast.cli.api_child import ApiPlan, command

    def start(_: UUID, link: int) -> tuple[Sequence[str], Mapping[str, str]]:
        return command(
            ApiPlan(
                link,
                dsn,
                settings.host,
                settings.port,
                settings.log_level,
                settings.rate_limit,
                settings.trusted_proxies,
                settings.rate_limit_headers,
            )
        )

    return ChildSpec("api", start, is_worker=False)


def _lines(settings: Settings, database: Database, kinds: str) -> list[tuple[str, str]]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    kept = " (kept when this stops)" if database.is_local else ""
    known = f"{settings.app} with {kinds}" if settings.app else "none given, so the demo's; yours: holdfast up tasks:hf"
    return [
        ("database", f"{database.describe()}{kept}"),
        ("api", f"http://{host}:{settings.port}  /livez /readyz /metrics"),
        ("app", known),
        ("workers", workers.describe_workers(settings)),
        ("stop", workers.describe_stop(settings)),
    ]
