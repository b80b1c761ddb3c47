"""Running what is due, one job after the other, in a test's own event loop."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from holdfast.app import Holdfast, new_id
from holdfast.core.kind import Kind
from holdfast.postgres import calls, reads
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.transactions import Transactions
from holdfast.services.deadlines import Deadlines
from holdfast.services.reporter import Reporter
from holdfast.services.run import Run

#: Runs after which a drain gives up.
MOST_RUNS = 1000


@dataclass(frozen=True)
class Ran:
    """One run of a drain. `status`: what became of the job (succeeded, queued for another attempt, dead, cancelled).

    `error` is what the handler raised.

    >>> from holdfast.testing import sandbox
    >>> with sandbox(hf) as box:
    ...     handle = send_mail.enqueue_sync(to="ada@example.org")
    ...     (ran,) = box.drain_sync()
    >>> ran.kind, ran.attempt, ran.status, ran.result
    ('send_mail', 1, 'succeeded', 'sent to ada@example.org')
    """

    id: UUID
    kind: str
    attempt: int
    status: str
    result: Any = None
    error: BaseException | None = None


class Drain:
    """A worker that runs one job at a time, in the test's own event loop."""

    def __init__(self, hf: Holdfast, dsn: str) -> None:
        self._hf = hf
        self._id = new_id()
        self._ledger = AsyncLedger(dsn, name="holdfast testing")
        self._transactions = Transactions(dsn, self._id)
        self._deadlines = Deadlines()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="holdfast-testing")

    async def __aenter__(self) -> "Drain":
        await self._ledger.call(calls.register_worker(self._id, {"queues": [], "kinds": [], "slots": 1}))
        self._reporter = Reporter(self._ledger, self._id)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ledger.call(calls.mark_seen_deaths([self._id], "stopped"))
        await self._transactions.close()
        await self._ledger.close()
        self._deadlines.close()
        self._threads.shutdown(wait=False)

    async def run(self, queues: Sequence[str], *, reraise: bool) -> list[Ran]:
        ran: list[Ran] = []
        while claimed := await self._ledger.call(calls.claim(self._id, list(queues), sorted(self._hf.kinds), 1, None)):
            if len(ran) == MOST_RUNS:
                await self._release(claimed[0])
                raise AssertionError(f"no end after {MOST_RUNS:,} runs: does {claimed[0].kind} enqueue itself?")
            ran.append(await self._run(claimed[0]))
            error = ran[-1].error
            if error is not None and reraise:
                error.add_note(f"in job {ran[-1].id} ({ran[-1].kind}), attempt {ran[-1].attempt}")
                raise error
        return ran

    async def _release(self, job: calls.Claimed) -> None:
        await self._ledger.call(calls.settle(self._id, [calls.Settlement(job.id, job.lease, "release")]))

    async def _run(self, job: calls.Claimed) -> Ran:
        raised: list[BaseException] = []
        run = Run(
            job,
            _watched(self._hf.kinds[job.kind], raised),
            lambda text: self._reporter.report(job.id, job.lease, text),
            self._transactions,
            deadlines=self._deadlines,
            worker_id=self._id,
        )
        run.begun = True
        run.task = asyncio.create_task(self._settled(run))
        await run.task
        (row,) = await self._ledger.call(reads.job(job.id))
        failed = row.status != "succeeded" and row.settled_as == "fail"
        error = raised[-1] if raised else AssertionError((row.error or {}).get("message"))
        return Ran(job.id, job.kind, job.attempts + 1, row.status, row.result, error if failed else None)

    async def _settled(self, run: Run) -> None:
        settlement = await run.execute(self._threads, 0.5)
        if settlement is not None:
            found = await self._ledger.call(reads.run_status(self._id, run.job.id, run.job.lease))
            if found == ["running"]:
                await self._ledger.call(calls.settle(self._id, [settlement]))


def _watched(kind: Kind, raised: list[BaseException]) -> Kind:
    """The kind with a handler that keeps what it raises, and which runs in this process."""
    isolation = "async" if kind.is_async else "thread"
    if kind.is_async:

        async def handler(*args: Any, **kwargs: Any) -> Any:
            with _kept(raised):
                return await kind.handler(*args, **kwargs)

        return dataclasses.replace(kind, handler=handler, isolation=isolation)

    def plain(*args: Any, **kwargs: Any) -> Any:
        with _kept(raised):
            return kind.handler(*args, **kwargs)

    return dataclasses.replace(kind, handler=plain, isolation=isolation)


@contextlib.contextmanager
def _kept(raised: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        raised.append(error)
        raise
