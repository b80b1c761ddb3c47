"""One run of one job in this process: its context, its cancellation, and what its end means for the ledger."""

import asyncio
import contextvars
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from holdfast.core import retry
from holdfast.core.fingerprint import fingerprint
from holdfast.core.kind import Kind
from holdfast.core.payload import encode, storable
from holdfast.core.retry import LONGEST
from holdfast.errors import GiveUp, InvalidResult, LeaseLost
from holdfast.postgres.calls import Call, Claimed, Settlement, complete_run
from holdfast.services.isolation import Answer, IsolatedCall, IsolatedFailure, Isolation, ProcessCrashed

if TYPE_CHECKING:
    from holdfast.postgres.transactions import Transactions

_current: contextvars.ContextVar["Context"] = contextvars.ContextVar("holdfast_context")
_log = logging.getLogger("holdfast.job")

MAX_TRACEBACK = 8_000
MAX_MESSAGE = 2_000


class StopReason(StrEnum):
    """Why a run is asked to end before its handler did."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    DRAIN = "drain"
    LOST = "lost"
    FENCED = "fenced"


class JobSnoozed(Exception):
    """Ends a run; raised by `Context.snooze`."""

    def __init__(self, delay: float) -> None:
        super().__init__(f"snoozed for {delay:g} s")
        self.delay = delay


class NotCommitted(Exception):
    """A handler settled its job in its own transaction, and that was not committed when the handler returned."""


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
        self._unsure = False
        self._stop = Event()

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
        return self._stop.is_set()

    @property
    def is_unsure(self) -> bool:
        """Whether a transaction of the handler's was to settle this run, and its commit was not seen from here."""
        return self._unsure

    def request_stop(self) -> None:
        """Set `cancelled`."""
        self._stop.set()

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

    def _settle_with(self, text: str) -> str:
        self._settled = True
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
        """End this run now and come back in `delay` seconds (at most a year); costs no attempt."""
        if not 0 <= delay <= LONGEST:
            raise ValueError(f"snooze for {delay!r} s: it must be a number of seconds from 0 to a year")
        raise JobSnoozed(delay)


def use_context(context: Context) -> None:
    """Make `current_context` answer with this context in the current execution context."""
    _current.set(context)


def current_context() -> Context:
    """The context of the run that this code is called from; `LookupError` outside of a handler.

    >>> @hf.job()
    ... def deep_down() -> str:
    ...     return current_context().kind
    >>> await (await deep_down.enqueue()).result(timeout=30)
    'deep_down'
    """
    return _current.get()


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


class Run:
    """A claimed job in this process, from the answer of the claim to the answer of the settle."""

    def __init__(
        self,
        job: Claimed,
        kind: Kind,
        report: Report,
        transactions: "Transactions | None",
        isolation: Isolation | None = None,
        *,
        worker_id: UUID,
        lost_after: float = 25.0,
    ) -> None:
        self.job = job
        self._report = report
        self._isolation = isolation
        self.kind = kind
        self.context = Context(job, report, transactions, worker_id=worker_id, lost_after=lost_after)
        self._told_child = {"worker_id": str(worker_id), "lost_after": lost_after}
        self.stop_reason: StopReason | None = None
        self.stopped_at: float | None = None
        self.begun = False
        self.finished = False
        self.task: asyncio.Task[None] | None = None
        self._thread: asyncio.Future[Any] | None = None
        self._isolated: IsolatedCall | None = None

    @property
    def settling(self) -> bool:
        """Whether the ledger is being told how this run ended, or has been: its own answer decides from here on."""
        return self.finished or self.context._settled

    def ignores_its_stop(self, seconds: float) -> bool:
        """Whether the handler still runs so long after it was asked to end."""
        return (
            self.stopped_at is not None
            and not self.settling
            and asyncio.get_running_loop().time() - self.stopped_at > seconds
        )

    @property
    def in_thread(self) -> bool:
        """Whether a thread still executes the handler: it cannot be cancelled, only asked."""
        return self._thread is not None and not self._thread.done()

    def stop(self, reason: StopReason) -> None:
        """Ask the handler to end. A lost lease outranks the other reasons: then nothing must be written."""
        if self.stop_reason is None or reason is StopReason.LOST:
            self.stop_reason = reason
        if self.stopped_at is None:
            self.stopped_at = asyncio.get_running_loop().time()
        self.context.request_stop()
        if self._isolated is not None:
            self._isolated.stop()
        # A task that is cancelled before its first step never takes one; it looks at the reason itself.
        if self.task is not None and self.begun and self._thread is None and not self.settling:
            self.task.cancel()

    def beat_accepted(self) -> None:
        """The worker's lease was confirmed: a handler in a process of its own may go on."""
        if self._isolated is not None:
            self._isolated.alive()

    async def execute(self, threads: Executor, dice: float) -> Settlement | None:
        """Run the handler to its end; None when there is nothing to write: the lease is lost, or it is settled already.

        Where the handler settled it in a transaction of its own (`context.is_unsure`), the answer is for the case that
        this was not committed.
        """
        settlement = await self._outcome(threads, dice)
        if self.stop_reason is StopReason.LOST or (self.context._settled and not self.context.is_unsure):
            return None
        if self.context.is_unsure and settlement.outcome == "complete":
            missing = NotCommitted("ctx.complete was called and its transaction was not committed; commit after it")
            return self._failure(missing, delay=self._delay(dice))
        return settlement

    async def _outcome(self, threads: Executor, dice: float) -> Settlement:
        try:
            arguments = self.kind.decode_arguments(self.job.args)
        except Exception as error:
            # Most often InvalidArguments; a validator of the handler's own types may raise anything.
            return self._failure(error, delay=None)
        timer = self._start_timer()
        try:
            if self.kind.isolation == "process":
                return await self._call_isolated(dice)
            value = await self._call(arguments, threads)
            return Settlement(self.job.id, self.job.lease, "complete", result=self.kind.encode_result(value))
        except JobSnoozed as snoozed:
            return Settlement(self.job.id, self.job.lease, "snooze", delay=snoozed.delay)
        except (InvalidResult, GiveUp) as error:
            return self._failure(error, delay=None)
        except asyncio.CancelledError as error:
            return self._stopped(error, dice)
        except GeneratorExit:
            raise
        except BaseException as error:
            # Also SystemExit and errors of the handler's own making: a run must end, whatever ends its handler.
            if self.stop_reason in (StopReason.DRAIN, StopReason.FENCED, StopReason.CANCEL):
                return self._stopped(error, dice)
            return self._failure(error, delay=self._delay(dice))
        finally:
            if timer is not None:
                timer.cancel()

    async def _call(self, arguments: dict[str, Any], threads: Executor) -> Any:
        first = (self.context,) if self.kind.wants_context else ()
        token = _current.set(self.context)
        try:
            if self.kind.is_async:
                return await self.kind.handler(*first, **arguments)
            inside = contextvars.copy_context()
            self._thread = asyncio.get_running_loop().run_in_executor(
                threads, lambda: inside.run(_call_plain, self.kind.handler, first, arguments)
            )
            return await self._thread
        finally:
            _current.reset(token)

    async def _call_isolated(self, dice: float) -> Settlement:
        if self._isolation is None:
            raise RuntimeError("isolation 'process' needs a worker that was started with module:attribute")
        job = self.job
        self._isolated = IsolatedCall(self._isolation, lambda text: asyncio.wrap_future(self._report(text)))
        answer = await self._answer_of_child(
            {
                **self._told_child,
                "log_level": logging.getLogger().level,
                "id": str(job.id),
                "lease": job.lease,
                "queue": job.queue,
                "kind": job.kind,
                "args": job.args,
                "attempts": job.attempts,
                "progress": job.progress,
                "traceparent": job.traceparent,
                "created_at": job.created_at.isoformat(),
                "claimed_at": job.claimed_at.isoformat(),
            }
        )
        self.context._unsure = answer.is_unsure
        match answer.kind:
            case "result":
                return Settlement(job.id, job.lease, "complete", result=answer.body)
            case "snooze":
                return Settlement(job.id, job.lease, "snooze", delay=answer.body)
            case _:
                failure = IsolatedFailure(answer.body["type"], answer.body["message"], answer.body["traceback"])
                return self._failure(failure, delay=None if answer.kind == "invalid" else self._delay(dice))

    async def _answer_of_child(self, call: dict[str, Any]) -> Answer:
        assert self._isolated is not None
        try:
            return await self._isolated.run(call)
        except ProcessCrashed:
            self.context._unsure = True  # it may have settled its job before it died
            raise

    def _start_timer(self) -> asyncio.TimerHandle | None:
        if self.job.timeout is None:
            return None
        seconds = self.job.timeout.total_seconds()
        return asyncio.get_running_loop().call_later(seconds, self.stop, StopReason.TIMEOUT)

    def _stopped(self, error: BaseException, dice: float) -> Settlement:
        if self.stop_reason is StopReason.TIMEOUT and self.job.timeout is not None:
            seconds = self.job.timeout.total_seconds()
            return self._failure(TimeoutError(f"not done after its timeout of {seconds:g} s"), delay=self._delay(dice))
        if self.stop_reason is None:
            return self._failure(error, delay=self._delay(dice))
        return Settlement(self.job.id, self.job.lease, "release")

    def _delay(self, dice: float) -> float:
        return retry.from_json(self.job.retry_policy).delay(self.job.attempts + 1, dice)

    def _failure(self, error: BaseException, *, delay: float | None) -> Settlement:
        if isinstance(error, IsolatedFailure):
            name, text, own = error.type_name, error.trace, []
        else:
            name, text, own = type(error).__name__, "".join(traceback.format_exception(error)), _own_frames(error)
        # Postgres stores neither NUL nor lone surrogates, and an error must never cost a job its next attempt.
        text = storable(text[-MAX_TRACEBACK:])
        message = storable(_message(error)[:MAX_MESSAGE])
        stored = {"type": name, "message": message, "traceback": text}
        return Settlement(
            self.job.id,
            self.job.lease,
            "fail",
            error=json.dumps(stored),
            delay=delay,
            fingerprint=fingerprint(self.kind.name, name, message, own),
        )


def _call_plain(handler: Callable[..., Any], first: tuple[Context, ...], arguments: dict[str, Any]) -> Any:
    try:
        return handler(*first, **arguments)
    except StopIteration as error:
        # It cannot be put into a future: nobody would ever hear of it.
        raise RuntimeError("the handler raised StopIteration") from error


def _own_frames(error: BaseException) -> list[str]:
    return [
        f"{frame.filename.rpartition('/')[2]}:{frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "/holdfast/" not in frame.filename
    ]


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"(its text cannot be shown: str() raised {type(broken).__name__})"
