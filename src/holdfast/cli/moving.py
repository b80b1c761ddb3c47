"""`holdfast dlq move`: SQS moves all messages of a dead-letter queue itself, and that is followed to its end."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.text import Text

from holdfast.cli.incidents import whoever
from holdfast.cli.letter_choice import By, Yes
from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, dlq_sources
from holdfast.cli.output import clean, print_json, show
from holdfast.cli.redriving import open_redrive
from holdfast.config import Settings
from holdfast.errors import ConfigurationError
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.dlq_queues import find_queues
from holdfast.services.mover import EVERY, Mover
from holdfast.sqs.client import MoveTask, Sqs, queue_name


def move(
    queue: Annotated[str, typer.Argument(help="The dead-letter queue, by its name.")],
    *,
    to: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="Move them there, not back to where they came from.")
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, max=500, metavar="N", help="Move N a second at most.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End a move; what was moved stays moved.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be moved.")] = False,
    by: By = None,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have SQS move all messages of a dead-letter queue back, seen or not, and follow that to its end.

    It is quicker than a redrive, and knows no choice, canary, or stop when they come back. Once begun it goes on in SQS
    also when this command is killed; asked for again, the command follows it.
    """
    with open_redrive(database_url, data_dir) as (settings, ledger):
        work = _Move(settings, ledger.dsn, queue, as_json=as_json)
        try:
            code = asyncio.run(work.run(to, rate, by or whoever(), cancel=cancel, dry_run=dry_run, yes=yes))
        except KeyboardInterrupt:
            print(f"\ninterrupted; SQS goes on with it. To end it: holdfast dlq move {queue} --cancel", file=sys.stderr)
            raise
    raise typer.Exit(code)


class _Move:
    def __init__(self, settings: Settings, dsn: str, queue: str, *, as_json: bool) -> None:
        self._sources, self._dsn, self._queue, self._as_json = dlq_sources(settings), dsn, queue, as_json

    async def run(self, to: str | None, rate: int | None, by: str, *, cancel: bool, dry_run: bool, yes: bool) -> int:
        if self._sources.any_url is None:
            raise ConfigurationError("no queue of SQS is set here: HOLDFAST_DLQ_URLS, SQS_QUEUE_URL")
        sqs, ledger = Sqs(self._sources.any_url), AsyncLedger(self._dsn, name="holdfast cli move")
        try:
            url = await self._url(sqs)
            mover = Mover(sqs, ledger, url, every=EVERY)
            if cancel:
                return self._say_cancelled(was_there=await mover.cancel())
            if dry_run or await mover.running() is None:
                if not await self._is_meant(sqs, url, to, dry_run=dry_run, yes=yes):
                    return 0
                await mover.begin(to=None if to is None else await _url_of(sqs, to), rate=rate)
            return self._say_ended(await mover.follow(by, self._say_how_far))
        finally:
            await sqs.close()
            await ledger.close()

    async def _url(self, sqs: Sqs) -> str:
        found = await find_queues(sqs, self._sources)
        known = {queue_name(url): url for url in found.urls}
        if self._queue not in known:
            why = found.problems.get(self._queue) or f"those are {', '.join(sorted(known)) or 'none'}"
            raise ConfigurationError(f"{self._queue!r} is no dead-letter queue that is watched here: {why}")
        return known[self._queue]

    async def _is_meant(self, sqs: Sqs, url: str, to: str | None, *, dry_run: bool, yes: bool) -> bool:
        found = await sqs.attributes(url)
        count, where = found.visible + found.in_flight + found.delayed, to or "where they came from"
        if self._as_json and (dry_run or not count):
            print_json(dry_run=dry_run, messages=count, to=to)
        elif not self._as_json:
            show(f"{count:,} message{'s' * (count != 1)} of {self._queue}, seen or not, to {where}")
        if dry_run or not count:
            return False
        if not yes and (self._as_json or not sys.stdin.isatty()):
            raise ConfigurationError("this would move them all; add --yes to do it, or --dry-run to look")
        return yes or typer.confirm("Move them?", abort=True)

    def _say_how_far(self, task: MoveTask) -> None:
        if not self._as_json and task.is_running:
            show(f"{task.moved:,} of {'?' if task.total is None else f'{task.total:,}'} moved")

    def _say_cancelled(self, *, was_there: bool) -> int:
        if self._as_json:
            print_json(cancelled=was_there)
        else:
            show("SQS ends it; what was moved stays moved" if was_there else f"nothing moves {self._queue}")
        return 0 if was_there else 1

    def _say_ended(self, task: MoveTask) -> int:
        is_done = task.status == "COMPLETED"
        if self._as_json:
            print_json(status=task.status, moved=task.moved, total=task.total, to=task.target, why=task.why)
            return 0 if is_done else 1
        why = f": {clean(task.why)}" if task.why else ""
        show(Text(f"{task.status.lower()}, {task.moved:,} moved{why}", "green" if is_done else "yellow"))
        if task.why.endswith("CouldNotDetermineMessageSource"):
            show("SQS does not know where they came from; say so: --to QUEUE")
        return 0 if is_done else 1


async def _url_of(sqs: Sqs, queue: str) -> str:
    return queue if "://" in queue else await sqs.url_named(queue)
