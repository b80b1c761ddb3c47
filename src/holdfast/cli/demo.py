"""`holdfast demo`: thousands of real jobs, workers killed and frozen in the middle, and a count that must come out.

What was submitted is kept outside the database and every digest is checked with hashlib afterwards, so the demo does
not believe the ledger: it compares it with what is true.
"""

import asyncio
import json
import os
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from holdfast.cli import output
from holdfast.cli.demo_report import FEWEST_IN_FLIGHT, render, summary
from holdfast.cli.demo_run import Demo, SqsPlan
from holdfast.cli.options import DatabaseUrl, DataDir, read_settings
from holdfast.cli.service import require_sqs
from holdfast.cli.up import prepare_sqs
from holdfast.config import Settings
from holdfast.errors import ConfigurationError

JOBS = 5_000
HOLD, LONG_HOLD = 0.3, 0.75
MOST_BYTES = 8_000_000


def demo(
    *,
    jobs: Annotated[int, typer.Option(min=1, max=100_000, help="How many files; one job each.")] = JOBS,
    kill: Annotated[int, typer.Option(min=0, max=20, help="SIGKILL this many different worker processes.")] = 0,
    freeze: Annotated[
        int, typer.Option(min=0, max=1, help="SIGSTOP a worker with its supervisor; it goes on later, as a zombie.")
    ] = 0,
    restart_postgres: Annotated[
        bool, typer.Option("--restart-postgres", help="Kill the local Postgres and start it again.")
    ] = False,
    sqs: Annotated[bool, typer.Option("--sqs", help="Ring over a local SQS server as well.")] = False,
    stop_sqs: Annotated[
        float, typer.Option(min=0, max=60, help="With --sqs: kill that server in the middle, for so many seconds.")
    ] = 0.0,
    chaos_messages: Annotated[
        bool, typer.Option("--chaos-messages", help="With --sqs: lose some of the bells, and double some.")
    ] = False,
    path: Annotated[
        Path | None, typer.Option(show_default=False, help="Files below this folder instead of Python's library.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 4,
    slots: Annotated[int, typer.Option(min=1, max=1000, help="Jobs that each process runs at a time.")] = 8,
    hold: Annotated[
        float | None, typer.Option(min=0, max=30, show_default=False, help="Seconds that each job holds its slot.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which processes are hit.")] = 0,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object at the end, and nothing else.")] = False,
) -> None:
    """Run real jobs, break things in the middle, and count: nothing may be lost."""
    settings = read_settings(database_url, data_dir, processes=processes, slots=slots)
    _refuse_what_cannot_work(settings, kill, freeze, restart_postgres)
    sqs_plan = _plan_sqs(settings, sqs, stop_sqs, chaos_messages)
    files = collect_files(path, jobs)
    hold = (LONG_HOLD if freeze or restart_postgres else HOLD) if hold is None else hold
    console = Console(stderr=as_json, quiet=as_json, highlight=False, no_color=True if _no_color() else None)
    seconds = len(files) * hold / (processes * slots)
    console.print(
        f"{len(files):,} files, one job each: SHA-256 and word count; each holds its slot for {hold:g} s.\n"
        f"{processes} worker processes with {slots} slots each: about {max(seconds, 1):.0f} s.\n"
        f"In the middle: {kill} SIGKILL, {freeze} freeze{', Postgres killed and restarted' * restart_postgres}"
        f"{f', SQS stopped for {stop_sqs:g} s' if stop_sqs else ''}{', bells lost and doubled' * chaos_messages}."
    )
    report = asyncio.run(
        Demo(
            settings,
            files,
            hold=hold,
            kills=kill,
            freezes=freeze,
            restart=restart_postgres,
            sqs=sqs_plan,
            rng=random.Random(seed),  # noqa: S311
            console=console,
        ).run()
    )
    if as_json:
        print(json.dumps({"schema": output.SCHEMA, **asdict(report)}, default=output.as_json))
    else:
        console.print()
        console.print(render(report))
        for problem in report.problems:
            console.print(f"problem: {problem}", style="red")
        console.print(summary(report))
    raise typer.Exit(1 if report.problems else 0)


def collect_files(folder: Path | None, wanted: int) -> list[Path]:
    """The first `wanted` files below a folder, in order; the standard library's (and what is installed beside it)."""
    tops = [folder] if folder is not None else [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    found: dict[Path, None] = {}
    for top in tops:
        if not top.is_dir():
            raise ConfigurationError(f"--path {top} is not a folder")
        for candidate in _walk(top):
            found[candidate] = None
            if len(found) == wanted:
                return list(found)
    if not found:
        raise ConfigurationError(f"no readable file below {tops[0]}; give another --path")
    return list(found)


def _walk(top: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            candidate = Path(parent, name)
            if candidate.is_file() and os.access(candidate, os.R_OK) and candidate.stat().st_size < MOST_BYTES:
                yield candidate


def _refuse_what_cannot_work(settings: Settings, kill: int, freeze: int, restart: bool) -> None:
    if kill + freeze > settings.processes:
        raise ConfigurationError(
            f"--kill {kill} and --freeze {freeze} need as many processes; there are {settings.processes} (--processes)"
        )
    if (kill or freeze) and settings.slots <= FEWEST_IN_FLIGHT:
        raise ConfigurationError(
            f"--slots {settings.slots} is too few: a process is hit while it runs at least {FEWEST_IN_FLIGHT} jobs; "
            f"give --slots {FEWEST_IN_FLIGHT + 1} or more"
        )
    if restart and settings.database_url is not None:
        raise ConfigurationError(
            "--restart-postgres is for the local server, and DATABASE_URL (or --database-url) names another one; "
            "unset it, or give --data-dir"
        )


def _plan_sqs(settings: Settings, sqs: bool, stop: float, chaos: bool) -> SqsPlan | None:
    if not sqs:
        if stop or chaos:
            raise ConfigurationError("--stop-sqs and --chaos-messages break what --sqs starts; give --sqs too")
        return None
    plan = prepare_sqs(settings)
    require_sqs(settings.model_copy(update={"sqs_queue_url": plan.url}))
    return SqsPlan(plan, stop, chaos)


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR"))
