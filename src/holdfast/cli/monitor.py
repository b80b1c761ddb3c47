"""`holdfast monitor`: the monitors as services of their own."""

import asyncio
from pathlib import Path

import typer

from holdfast.app import new_id
from holdfast.cli import worker as workers
from holdfast.cli.options import DatabaseUrl, DataDir, open_database, read_settings
from holdfast.cli.service import (
    describe_alerts,
    describe_sqs,
    describe_stop,
    require_sqs,
    require_unix,
    show_start,
    start_logging,
    supervise,
)
from holdfast.cli.specs import monitor_spec
from holdfast.cli.tagged import with_tagged_bell
from holdfast.config import Settings
from holdfast.sqs.client import queue_name

monitor = typer.Typer(
    help="Run a monitor as a service of its own. Workers run both already, unless HOLDFAST_MONITORS is off.",
    no_args_is_help=True,
)


@monitor.command()
def stale(database_url: DatabaseUrl = None, data_dir: DataDir = None, log_level: workers.LogLevel = None) -> None:
    """Look for stuck jobs and take them back; each sweep is logged. Rings the queues of rescued jobs."""
    settings = _read(database_url, data_dir, log_level)
    line = (
        f"each {settings.sweep_interval:g} s; a job without a sign of life for {settings.stale_after:g} s is taken back"
    )
    _run("stale-job-monitor", settings, [("sweeps", line), *describe_sqs(settings)], stale_jobs=True)


@monitor.command()
def dlq(database_url: DatabaseUrl = None, data_dir: DataDir = None, log_level: workers.LogLevel = None) -> None:
    """Watch dead-letter queues and jobs that went dead, and tell of them."""
    settings = _read(database_url, data_dir, log_level)
    lines = [("watches", f"jobs, and {_queues(settings)}; queues each {settings.dlq_interval:g} s")]
    if settings.dlq_capture:
        lines.append(("captures", f"{', '.join(settings.dlq_capture)}: kept in the ledger, then deleted from SQS"))
    _run("dlq-monitor", settings, [*lines, ("alerts", describe_alerts(settings))], stale_jobs=False)


def _read(database_url: str | None, data_dir: Path | None, log_level: str | None) -> Settings:
    settings = read_settings(database_url, data_dir, log_level=log_level)
    require_unix()
    require_sqs(settings)
    return with_tagged_bell(settings)


def _run(name: str, settings: Settings, lines: list[tuple[str, str]], *, stale_jobs: bool) -> None:
    start_logging(settings)
    database = open_database(settings)
    try:
        show_start([("database", database.describe()), *lines, ("stop", describe_stop(settings))], database.dsn)
        spec = monitor_spec(settings, database.dsn, stale=stale_jobs, dlq=not stale_jobs, rings=stale_jobs)
        clean = asyncio.run(
            supervise(name, [spec], settings, {}, database=database, supervisor_id=new_id(), sweep=False)
        )
    finally:
        database.release()
    raise typer.Exit(0 if clean else 1)


def _queues(settings: Settings) -> str:
    urls = [*settings.bell_routes().urls(), *filter(None, [settings.watched_queue_url])]
    names = [f"the dead letters of {queue_name(url)}" for url in urls] + [queue_name(url) for url in settings.dlq_urls]
    return ", ".join(names) or "no queue of SQS (HOLDFAST_SQS_QUEUE_URL, SQS_QUEUE_URL, HOLDFAST_DLQ_URLS)"
