"""A real ledger for one test."""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from holdfast.app import Holdfast
from holdfast.errors import ConfigurationError
from holdfast.events import Event, ScheduleTicked, Sinks
from holdfast.handles import JobKind
from holdfast.postgres import reads, throwaway
from holdfast.postgres.ledger import AsyncLedger, SyncLedger
from holdfast.postgres.reads import JobRow
from holdfast.services.scheduler import Scheduler
from holdfast.testing.drain import Drain, Ran
from holdfast.testing.execution import blocking
from holdfast.testing.expectations import Expectations


@contextlib.contextmanager
def sandbox(hf: Holdfast, url: str | None = None, *, in_place: bool = False) -> Iterator["Sandbox"]:
    """A real ledger for one test: `hf` uses it while this lasts.

    url: a server on which a database is made and dropped; by default a local one that is started for this process's
        tests (about a second, once) and removed when it ends. A database takes some hundredths of a second.
    in_place: use the very database of `url`, for tests that need your own tables in it. Its name must hold "test": the
        schema is brought up to date, the clock replaced, and all jobs in it are deleted first.

    Raises `ConfigurationError`, `DatabaseUnavailable`, `EmbeddedPostgresError`.

    >>> from holdfast.testing import sandbox
    >>> with sandbox(hf) as box:
    ...     job = await send_mail.options(delay=3600).enqueue(to="ada@example.org")
    ...     print(len(await box.drain()))
    ...     box.advance(hours=1)
    ...     (ran,) = await box.drain()
    ...     print(ran.status, ran.result)
    0
    succeeded sent to ada@example.org
    """
    if in_place and url is None:
        raise ConfigurationError("in_place needs the url of the database to use")
    place = throwaway.emptied_database if in_place else throwaway.new_database
    with place(url or throwaway.local_server()) as dsn, hf.elsewhere(hf.settings.with_changes(database_url=dsn)):
        box = Sandbox(hf, dsn)
        try:
            yield box
        finally:
            box.close()


class Sandbox(Expectations):
    """The ledger of a `sandbox` block. `dsn` is its database, for connections of your own.

    >>> from holdfast.testing import sandbox
    >>> with sandbox(hf) as box:
    ...     handle = send_mail.options(queue="slow").enqueue_sync(to="ada@example.org")
    ...     row = box.assert_enqueued(send_mail.options(queue="slow"), to="ada@example.org")
    ...     box.assert_enqueued(send_mail, to="bob@example.org")
    Traceback (most recent call last):
    AssertionError: no send_mail(to='bob@example.org') was enqueued; what was: send_mail(to='ada@example.org')
    """

    def __init__(self, hf: Holdfast, dsn: str) -> None:
        self._hf = hf
        self.dsn = dsn
        self._ledger = SyncLedger(dsn, name="holdfast testing")

    def enqueued(self, kind: JobKind[..., Any] | None = None, *, status: str | None = None) -> list[JobRow]:
        """Jobs in the order in which they were enqueued, at most 1,000; of one kind and status, or all."""
        return self._ledger.call(reads.jobs_in_order(kind=None if kind is None else kind.name, status=status))

    def now(self) -> datetime:
        """The ledger's time."""
        return self._ledger.one(reads.ping()).clock

    def advance(self, seconds: float = 0, *, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Move the ledger's clock forward: what is delayed becomes due, what is leased grows old."""
        throwaway.advance(self.dsn, timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days))

    async def drain(self, *queues: str, reraise: bool = True) -> list[Ran]:
        """Run what is due, one job after the other, and what those enqueue, until nothing is due any more.

        queues: which; by default those of the program's kinds and those that hold jobs.
        reraise: raise what a handler raises, once it is noted in the ledger, so that a test does not pass over it.

        A job that fails is due again after its delay: `advance`, and drain again. Handlers run as in a worker, but for
        `isolation="process"`, which runs in this process. Raises `AssertionError` after 1,000 runs.
        """
        async with Drain(self._hf, self.dsn) as drain:
            return await drain.run(queues or self._queues(), reraise=reraise)

    def drain_sync(self, *queues: str, reraise: bool = True) -> list[Ran]:
        """`drain` for tests without an event loop."""
        return blocking(self.drain(*queues, reraise=reraise))

    async def tick(self) -> list[str]:
        """Have the program's schedules tick that are due; the names of those that enqueued a job.

        The first call makes them known, so that they count from then on.
        """
        ledger, told = AsyncLedger(self.dsn, name="holdfast testing"), _Told()
        try:
            await Scheduler(ledger, Sinks([told]), self._hf.periodics).step()
        finally:
            await ledger.close()
        return told.ticked

    def tick_sync(self) -> list[str]:
        """`tick` for tests without an event loop."""
        return blocking(self.tick())

    def close(self) -> None:
        """Called at the end of the block."""
        self._ledger.close()

    def _queues(self) -> Sequence[str]:
        found = {row.name for row in self._ledger.call(reads.list_queues())}
        return sorted(found | {kind.queue for kind in self._hf.kinds.values()}) or ["default"]


class _Told:
    """A sink that keeps which schedules enqueued a job."""

    def __init__(self) -> None:
        self.ticked: list[str] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, ScheduleTicked) and event.verdict == "enqueued":
            self.ticked.append(event.name)
