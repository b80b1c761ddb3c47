"""`holdfast doctor` (also `verify`): examine the running deployment, with the exact fix for what is wrong."""

import asyncio
import contextlib
import difflib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.text import Text

from holdfast.app import new_id
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, here, read_settings, setting, sqs_queues
from holdfast.cli.output import clean, print_json, show, table
from holdfast.cli.reaching import target_of
from holdfast.cli.repairs import carry_out, repairs_of
from holdfast.cli.tagged import ask_for_tagged_bell
from holdfast.config import Settings
from holdfast.core.findings import Finding, Verdict, by_component, exit_code, overall
from holdfast.errors import ConfigurationError, DatabaseError, DatabaseRefused, DatabaseUnavailable
from holdfast.postgres import reads
from holdfast.postgres.dsn import parse, shown
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.presence import Service, list_services
from holdfast.services.checks.deployment import Deployment
from holdfast.services.doctor import Doctor
from holdfast.services.probe import ask_all, run_dir
from holdfast.services.sqs_watch import WatchedQueue

STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red", Verdict.SKIP: "dim"}


class FailOn(StrEnum):
    """What makes the exit code say so."""

    FAIL = "fail"
    WARN = "warn"


Url = Annotated[str | None, setting("url")]


def doctor(
    *,
    url: Url = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="A,B", help="These lines, or those whose ids begin so: schema,jobs.")
    ] = None,
    list_lines: Annotated[bool, typer.Option("--list", help="Print the id of each line, and examine nothing.")] = False,
    e2e: Annotated[
        bool,
        typer.Option(
            "--e2e", help="Also time a canary job, and have one die until its alert is delivered: up to 90 s."
        ),
    ] = False,
    send_test: Annotated[bool, typer.Option("--send-test", help="Post a test to Slack.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired by itself, and look again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --fix: only say what would be done.")] = False,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="warn: exit with 4 where something warns.")
    ] = FailOn.FAIL,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0.1, max=60, help="Seconds that the database, and each request to the API, has."),
    ] = 5.0,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Examine the deployment that runs: database, access, schema, workers, monitors, jobs, queues, alerts, API, health,
    limits, settings.

    It sends one canary job through each queue, and hits the rate limit with a key of its own; it changes nothing else
    unless told by --fix. Exit codes: 0 nothing failed; 1 something did; 2 wrong usage or settings; 3 the database or
    the API cannot be reached; 4 something warns, with --fail-on warn.
    """
    if dry_run and not fix:
        raise ConfigurationError("--dry-run says what --fix would do; give both")
    settings = read_settings(database_url, data_dir, url=url)
    wanted = [each.strip() for each in (only or "").split(",") if each.strip()]
    how = _How(e2e, send_test, list_lines, as_json, timeout)
    with _interrupted_by_sigterm():
        findings, lines = asyncio.run(_examine(settings, wanted, how))
    if list_lines:
        _show_lines(lines, as_json)
        raise typer.Exit
    repairs = repairs_of(findings) if fix else []
    if repairs and carry_out(repairs, asyncio.run(_database(settings, timeout))[0], dry_run=dry_run):
        findings, _ = asyncio.run(_examine(settings, wanted, replace(how, e2e=False, send_test=False)))
    verdict = overall(findings)
    if as_json:
        print_json(overall=verdict, findings=findings, components=by_component(findings))
    else:
        _show_table(findings)
        show(Text.assemble("\noverall: ", (verdict.value, f"bold {STYLES[verdict]}")))
    raise typer.Exit(exit_code(findings, warns_count=fail_on is FailOn.WARN))


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does, so that jobs which were sent to be tried are taken back.

    As Ctrl-C, and not by an exception of its own: asyncio makes a cancellation of the first Ctrl-C, so that what is
    under way cleans up, where an exception would hit whatever the event loop was just at.
    """

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class _How:
    """How to examine."""

    e2e: bool
    send_test: bool
    list_lines: bool
    as_json: bool
    timeout: float


async def _examine(settings: Settings, only: Sequence[str], how: _How) -> tuple[list[Finding], dict[str, str]]:
    """What is found, said line by line; and every line that there can be."""
    findings = []
    async with _deployment(settings, how) as deployment:
        doctor = Doctor(deployment, new_id=new_id, only=only)
        lines = doctor.lines()
        unknown = [each for each in only if not any(f"{id}.".startswith(f"{each}.") for id in lines)]
        if unknown and not any(each.startswith("sqs") for each in unknown):
            near = difflib.get_close_matches(unknown[0], lines, n=1)
            advice = f"did you mean {near[0]}?" if near else "holdfast doctor --list tells all"
            raise ConfigurationError(f"--only {unknown[0]!r:.60}: there is no such line; {advice}")
        if not how.list_lines:
            async for finding in doctor.examine():
                findings.append(finding)
                if not how.as_json:
                    show(*_lines(finding))
    return findings, lines


def _show_lines(lines: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json(lines=[{"id": id, "component": component} for id, component in lines.items()])
        return
    rows = table("ID", "COMPONENT")
    for id, component in lines.items():
        rows.add_row(id, component)
    show(rows)


@contextlib.asynccontextmanager
async def _deployment(settings: Settings, how: _How) -> AsyncIterator[Deployment]:
    dsn, where, detour = await _database(settings, how.timeout)
    ledger = AsyncLedger(dsn, name="holdfast doctor", deadline=how.timeout)
    try:
        services = await _services(ledger)
        async with httpx.AsyncClient(base_url=_address(settings, services, how.timeout), timeout=how.timeout) as http:
            yield Deployment(
                dsn,
                where,
                ledger,
                http,
                here(),
                settings.stale_after,
                queues=await _queues(settings, services),
                slack=settings.slack_webhook_url,
                send_test=how.send_test,
                e2e=how.e2e,
                drain_timeout=settings.drain_timeout,
                termination_grace=settings.termination_grace,
                token=settings.api_key.get_secret_value() if settings.api_key else None,
                detour=detour,
                target=target_of(settings),
                https=settings.https_ledger,
            )
    finally:
        await ledger.close()


async def _database(settings: Settings, timeout: float) -> tuple[str, str, str]:
    """The database that the settings name, and why it is reached over HTTPS alone, if so.

    Nothing is started: what does not run is what is to be found out.
    """
    https = settings.https_ledger
    if settings.database_url is not None:
        dsn = settings.database_url.get_secret_value()
        parse(dsn)
        why = await _unreachable(dsn, timeout) if https is not None else None
        if https is None or why is None:
            return dsn, shown(dsn), ""
        return https, shown(https), f"{why}; what can be asked over HTTPS is asked there"
    if https is not None and settings.data_dir is None:
        return https, shown(https), "DATABASE_URL is not set; what can be asked over HTTPS is asked there"
    server = EmbeddedPostgres(settings.data_dir)
    if server.pid is None:
        raise DatabaseUnavailable(
            f"no local Postgres runs in {server.data_dir}; start everything with: holdfast up (or set DATABASE_URL)"
        )
    return server.dsn, f"local Postgres in {server.data_dir}", ""


async def _unreachable(dsn: str, timeout: float) -> str | None:
    ledger = AsyncLedger(dsn, name="holdfast doctor", deadline=timeout)
    try:
        await ledger.one(reads.now())
    except DatabaseRefused:
        return None  # it answers, and what it says is to be told
    except DatabaseUnavailable as error:
        return str(error)
    finally:
        await ledger.close()
    return None


async def _services(ledger: AsyncLedger) -> list[Service]:
    """Those on this host that use this ledger; none where it does not answer.

    Those of this folder come first, then the one heard last: one that was killed is not heard again.
    """
    with contextlib.suppress(DatabaseError):
        found = [service for service in await ledger.call(list_services()) if service.host == socket.gethostname()]
        return sorted(found, key=lambda each: (each.folder == str(Path.cwd()), each.seen_at), reverse=True)
    return []


def _address(settings: Settings, services: Sequence[Service], timeout: float) -> str:
    """Where the API answers: as told, else as a service of this ledger or this host says; else by the settings."""
    if settings.url:
        return settings.url.rstrip("/")
    for service in services:
        if service.address:
            return service.address
    with contextlib.suppress(ConfigurationError):
        for _, told in ask_all(run_dir(settings.run_dir), timeout):
            if told and told.address:
                return told.address
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


async def _queues(settings: Settings, services: Sequence[Service]) -> list[WatchedQueue]:
    """Those of the settings, and the bells of a service that runs; without one, the own queue if it is tagged so."""
    rung = settings.sqs_queue_url or next((service.bell_url for service in services if service.bell_url), None)
    return sqs_queues(await ask_for_tagged_bell(settings.model_copy(update={"sqs_queue_url": rung})))


def _lines(finding: Finding) -> list[Text]:
    style = STYLES[finding.verdict]
    line = Text.assemble((f"{finding.verdict.value:<6}", style), f"{finding.component:<20}  ", clean(finding.found))
    needs_fix = finding.fix and finding.verdict in (Verdict.WARN, Verdict.FAIL)
    return [line, Text(f"      {'':<20}  fix: {finding.fix}", "bold")] if needs_fix else [line]


def _show_table(findings: list[Finding]) -> None:
    rows = table("COMPONENT", "CODE", "DEPLOYMENT", "STATUS")
    for column in rows.columns[1:3]:
        column.no_wrap = False
        column.overflow = "fold"
    for row in by_component(findings):
        status = Text(row.verdict.value, STYLES[row.verdict])
        rows.add_row(row.name, clean(row.code), clean(row.found), status)
    show(Text(), rows)
