"""What a handler knows and says about its own run: its context, also for whatever it calls, and for log records."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from holdfast.core.payload import encode
from holdfast.core.retry import LONGEST
from holdfast.errors import LeaseLost
from holdfast.postgres.calls import Call, Claimed, complete_run

if TYPE_CHECKING:
    from holdfast.postgres.transactions import Transactions

_current: contextvars.ContextVar["Context"] = contextvars.ContextVar("holdfast_context")
_log = logging.getLogger("holdfast.job")


class JobSnoozed(BaseException):
    """Ends a run; raised by `Context.snooze`. No `Exception`, so that a handler's `except Exception` lets it pass."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"snoozed for {delay:g} s")
        self.delay = delay


Report = Callable[[str | None], "Future[None]"]


class Context:
    """What a handler can know and say about its own run. Annotate the first parameter with this type to receive it.

    >>> from holdfast import Context
    >>> @hf.job()
    ... async def resize(ctx: Context, pages: int) -> int:
    ...     for page in range(pages):
    ...         await ctx.progress({"page": page})
    ...     ctx.log.info("all %s pages", pages)
    ...     return ctx.attempt
    >>> await (await resize.enqueue(pages=3)).result(timeout=30)
    1
    """

    def __init__(
        self,
        job: Claimed,
        report: Report,
        transactions: "Transactions | None",
        *,
        worker_id: UUID,
        lost_after: float = 25.0,
    ) -> None:
        self._job = job
        self._report = report
        self._transactions = transactions
        self._worker_id = worker_id
        self._lost_after = lost_after
        self._settled = False
        self._committing = False
        self._unsure = False
        self._stopped = False
        self._stop: Event | None = None

    @property
    def job_id(self) -> UUID:
        """The job's id: the same over all its runs."""
        return self._job.id

    @property
    def lease(self) -> int:
        """The fencing token of this run: larger than that of every earlier run of this job."""
        return self._job.lease

    @property
    def attempt(self) -> int:
        """1 for the first attempt; grows with each failure."""
        return self._job.attempts + 1

    @property
    def kind(self) -> str:
        """The name of the handler's kind."""
        return self._job.kind

    @property
    def queue(self) -> str:
        """The queue that the job came from."""
        return self._job.queue

    @property
    def created_at(self) -> datetime:
        """When the job was enqueued, by the database's clock."""
        return self._job.created_at

    @property
    def last_progress(self) -> Any:
        """What an earlier run of this job told last with `progress`, to go on from there; None at first."""
        return self._job.progress

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger whose records carry the run: job_id, kind, queue, attempt, lease. For others: `JobLogFilter`."""
        return logging.LoggerAdapter(_log, self.log_fields)

    @property
    def log_fields(self) -> dict[str, Any]:
        """What a log record should say of this run: job_id, kind, queue, attempt, lease."""
        return {
            "job_id": str(self.job_id),
            "kind": self.kind,
            "queue": self.queue,
            "attempt": self.attempt,
            "lease": self.lease,
        }

    @property
    def cancelled(self) -> bool:
        """Whether this run should end: cancelled, out of time, draining, or its lease lost. For plain functions.

        An async handler gets `asyncio.CancelledError` instead.
        """
        return self._stopped

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep for `seconds`, or until this run should end; whether it should. For plain functions.

        >>> from holdfast import Context
        >>> @hf.job()
        ... def poll_printer(ctx: Context) -> str:
        ...     while not printer_is_ready():
        ...         if ctx.wait_cancelled(2):
        ...             return "not printed"
        ...     return "printed"
        """
        self._stop = self._stop or Event()
        return self._stopped or self._stop.wait(seconds)

    @property
    def is_settled(self) -> bool:
        """Whether the handler settles this run itself, in a transaction that has come to that."""
        return self._settled

    @property
    def is_committing(self) -> bool:
        """Whether the commit of `transaction` is under way: it is let be, whatever happens."""
        return self._committing

    @property
    def is_unsure(self) -> bool:
        """Whether a transaction of the handler's was to settle this run, and its commit was not seen from here."""
        return self._unsure

    def request_stop(self) -> None:
        """Set `cancelled`."""
        self._stopped = True
        if self._stop is not None:
            self._stop.set()

    def doubt(self, is_unsure: bool) -> None:
        """Set `is_unsure`, which a process of the handler's own has told, or could not tell."""
        self._unsure = is_unsure

    async def progress(self, value: Any) -> None:
        """Store a JSON value on the job's row; counts as a heartbeat. `LeaseLost` when the job is no longer ours."""
        await asyncio.wrap_future(self._report(encode(value, what="progress")))

    async def heartbeat(self) -> None:
        """Tell that this run is alive; jobs with `silent_after` owe it. `LeaseLost` when the job is no longer ours."""
        await asyncio.wrap_future(self._report(None))

    def progress_sync(self, value: Any) -> None:
        """`progress`, for handlers that are plain functions."""
        self._report(encode(value, what="progress")).result()

    def heartbeat_sync(self) -> None:
        """`heartbeat`, for handlers that are plain functions."""
        self._report(None).result()

    @asynccontextmanager
    async def transaction(self, result: Any = None) -> AsyncIterator[Any]:
        """A database transaction whose commit is also the job's success: both happen, or neither does.

        Yields a psycopg connection. Its last statement before COMMIT stores `result` and settles the job, under this
        run's lease; where the lease is lost, everything is rolled back with `LeaseLost`. So what the handler writes
        through it happens exactly once; jobs that it enqueues with `conn=` are part of it. Do the rest of the work
        before: once the block has ended, the job has too. In a transaction of your own: `complete`.

        Raises `LeaseLost`. `TransactionFailed` where a statement had failed and its error was passed over: what may
        fail belongs in a savepoint, `async with conn.transaction():`. `DatabaseUnavailable`.

        >>> from holdfast import Context
        >>> @hf.job()
        ... async def pay(ctx: Context, order: int) -> None:
        ...     async with ctx.transaction(result="paid") as conn:
        ...         await conn.execute("UPDATE orders SET paid = true WHERE id = %s", (order,))
        ...         await send_mail.options(conn=conn).enqueue(to="ada@example.org")
        """
        if self._transactions is None:
            raise RuntimeError("a handler in a process of its own has no ctx.transaction; use ctx.complete")
        text = encode(result, what=f"result of {self.kind}")
        try:
            async with self._transactions.settled(
                self.job_id, self.lease, lambda: self._settle_with(text)
            ) as connection:
                yield connection
        except BaseException as error:
            self._unsure = self._settled and not isinstance(error, LeaseLost)
            self._settled = False
            raise
        finally:
            self._committing = False

    def _settle_with(self, text: str) -> str:
        self._settled = self._committing = True
        return text

    async def complete(self, conn: object, result: Any = None) -> None:
        """Settle this job as succeeded in your own transaction: what you wrote in it and the job's end are one commit.

        conn: an asyncio connection or session of psycopg, SQLAlchemy or asyncpg, with its transaction open. Call it
        last, then commit. The transaction may stay idle for `lost_after` (25 s) from here on. If it is not committed
        when the handler returns, that is a failure of the handler, and the job is tried again.

        Raises `LeaseLost` when this run no longer holds the job: let it pass, so that your transaction rolls back.
        `InvalidConnection` when no transaction is open. `ValueError` when `result` is not JSON.

        >>> from holdfast import Context
        >>> @hf.job()
        ... async def book(ctx: Context, seat: int) -> None:
        ...     async with sessions.begin() as session:  # SQLAlchemy's async_sessionmaker
        ...         session.add(Booking(seat=seat))
        ...         await ctx.complete(session, result=seat)
        """
        from holdfast.postgres import borrowed

        call = self._completion(result)
        try:
            self._judge(await borrowed.run_async(conn, call))
        except BaseException:
            self._settled = self._unsure = False
            raise

    def complete_sync(self, conn: object, result: Any = None) -> None:
        """`complete`, for handlers that are plain functions: psycopg, SQLAlchemy, Django, psycopg2."""
        from holdfast.postgres import borrowed

        call = self._completion(result)
        try:
            self._judge(borrowed.run(conn, call))
        except BaseException:
            self._settled = self._unsure = False
            raise

    def _completion(self, result: Any) -> Call[str]:
        text = encode(result, what=f"result of {self.kind}")
        call = complete_run(self._worker_id, self.job_id, self.lease, text, idle=self._lost_after)
        self._settled = self._unsure = True
        return call

    def _judge(self, verdicts: list[str]) -> None:
        if verdicts != ["applied"]:
            raise LeaseLost(f"job {self.job_id} is no longer held under lease {self.lease}; roll your transaction back")

    def snooze(self, delay: float) -> NoReturn:
        """End this run now and come back in `delay` seconds (at most a year); costs no attempt.

        It raises what is no `Exception`, so `except Exception` around it lets it pass; `except BaseException` must
        raise it again.
        """
        if not 0 <= delay <= LONGEST:
            raise ValueError(f"snooze for {delay!r} s: it must be a number of seconds from 0 to a year")
        raise JobSnoozed(delay)


Outside = contextvars.Token["Context"]


def use_context(context: Context) -> Outside:
    """Make `current_context` answer with this context in the current execution context, until it is left."""
    return _current.set(context)


def leave_context(outside: Outside) -> None:
    """End what `use_context` began."""
    _current.reset(outside)


def current_context() -> Context:
    """The context of the run that this code is called from; `LookupError` outside of a handler.

    >>> @hf.job()
    ... def deep_down() -> str:
    ...     return current_context().kind
    >>> await (await deep_down.enqueue()).result(timeout=30)
    'deep_down'
    """
    context = _current.get(None)
    if context is None:
        raise LookupError("current_context() was called outside of a job's handler: no run has a context here")
    return context


class JobLogFilter(logging.Filter):
    """Adds to every log record of a handler's code which run it belongs to; for any logger or handler of logging.

    Sets `job` (a short text, empty outside of a handler), and job_id, kind, queue, attempt and lease (None outside).

    >>> handler = logging.StreamHandler(sys.stdout)
    >>> handler.addFilter(JobLogFilter())
    >>> handler.setFormatter(logging.Formatter("%(job)s%(message)s"))
    >>> handler.handle(logging.makeLogRecord({"msg": "outside of a job"}))
    outside of a job
    True
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Never refuses a record."""
        context = _current.get(None)
        for name in ("job_id", "kind", "queue", "attempt", "lease"):
            if not hasattr(record, name):
                setattr(record, name, None if context is None else context.log_fields[name])
        record.job = "" if context is None else f"[{context.kind} {context.job_id} attempt {context.attempt}] "
        return True
