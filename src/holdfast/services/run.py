"""One run of one job in this process: its context, its cancellation, and what its end means for the ledger."""

import asyncio
import contextvars
import json
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import Any, NoReturn
from uuid import UUID

from holdfast.core import retry
from holdfast.core.fingerprint import fingerprint
from holdfast.core.kind import Kind
from holdfast.core.payload import encode, storable
from holdfast.core.retry import LONGEST
from holdfast.errors import InvalidResult
from holdfast.postgres.calls import Claimed, Settlement
from holdfast.postgres.transactions import Transactions
from holdfast.services.isolation import IsolatedCall, IsolatedFailure, Isolation, ProcessFenced

_current: contextvars.ContextVar["Context"] = contextvars.ContextVar("holdfast_context")

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


Report = Callable[[str | None], "Future[None]"]


class Context:
    """What a handler can know and say about its own run. Annotate the first parameter with this type to receive it.

    >>> from holdfast import Context
    >>> async def resize(ctx: Context, path: str) -> None:
    ...     for step in range(10):
    ...         if ctx.cancelled:
    ...             return
    ...         await ctx.progress({"step": step})
    """

    def __init__(self, job: Claimed, report: Report, transactions: Transactions | None) -> None:
        self._job = job
        self._report = report
        self._transactions = transactions
        self._committing = False
        self._settled = False
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
    def cancelled(self) -> bool:
        """Whether this run should end: cancelled, out of time, draining, or its lease lost. For plain functions."""
        return self._stop.is_set()

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
        through it happens exactly once. Do the rest of the work before: once the block has ended, the job has too.

        >>> from holdfast import Context
        >>> async def pay(ctx: Context, order: int) -> None:
        ...     async with ctx.transaction() as conn:
        ...         await conn.execute("UPDATE orders SET paid = true WHERE id = %s", (order,))
        """
        if self._transactions is None:
            raise RuntimeError("a handler in a process of its own has no ctx.transaction; use isolation 'async'")
        text = encode(result, what=f"result of {self.kind}")
        try:
            async with self._transactions.settled(
                self.job_id, self.lease, lambda: self._settle_with(text)
            ) as connection:
                yield connection
        except BaseException:
            self._settled = False
            raise
        finally:
            self._committing = False

    def _settle_with(self, text: str) -> str:
        self._settled = self._committing = True
        return text

    def snooze(self, delay: float) -> NoReturn:
        """End this run now and come back in `delay` seconds (at most a year); costs no attempt."""
        if not 0 <= delay <= LONGEST:
            raise ValueError(f"snooze for {delay!r} s: it must be a number of seconds from 0 to a year")
        raise JobSnoozed(delay)


def use_context(context: Context) -> None:
    """Make `current_context` answer with this context in the current execution context."""
    _current.set(context)


def current_context() -> Context:
    """The context of the run that this code is called from; `LookupError` outside of a handler."""
    return _current.get()


class Run:
    """A claimed job in this process, from the answer of the claim to the answer of the settle."""

    def __init__(
        self,
        job: Claimed,
        kind: Kind,
        report: Report,
        transactions: Transactions,
        isolation: Isolation | None = None,
    ) -> None:
        self.job = job
        self._report = report
        self._isolation = isolation
        self.kind = kind
        self.context = Context(job, report, transactions)
        self.stop_reason: StopReason | None = None
        self.stopped_at: float | None = None
        self.begun = False
        self.finished = False
        self.task: asyncio.Task[None] | None = None
        self._cancelled_for: set[StopReason] = set()
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
            and not self.finished
            and asyncio.get_running_loop().time() - self.stopped_at > seconds
        )

    @property
    def in_thread(self) -> bool:
        """Whether a thread still executes the handler: it cannot be cancelled, only asked."""
        return self._thread is not None and not self._thread.done()

    def stop(self, reason: StopReason) -> None:
        """Ask the handler to end. A lost lease outranks the other reasons: then nothing must be written.

        It is cancelled once for each reason, however often that is told: it may be cleaning up. A commit under way is
        let be; a handler that goes on after its transaction is not.
        """
        if self.stop_reason is None or reason is StopReason.LOST:
            self.stop_reason = reason
        if self.stopped_at is None:
            self.stopped_at = asyncio.get_running_loop().time()
        self.context.request_stop()
        if self._isolated is not None:
            self._isolated.stop()
        # A task that is cancelled before its first step never takes one; it looks at the reason itself.
        may_cancel = self.begun and self._thread is None and not self.finished and not self.context._committing
        if self.task is not None and may_cancel and reason not in self._cancelled_for:
            self._cancelled_for.add(reason)
            self.task.cancel()

    def beat_accepted(self) -> None:
        """The worker's lease was confirmed: a handler in a process of its own may go on."""
        if self._isolated is not None:
            self._isolated.alive()

    async def execute(self, threads: Executor, dice: float) -> Settlement | None:
        """Run the handler to its end; None when there is nothing to write, because the lease is lost."""
        settlement = await self._outcome(threads, dice)
        return None if self.stop_reason is StopReason.LOST or self.context._settled else settlement

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
        except InvalidResult as error:
            return self._failure(error, delay=None)
        except ProcessFenced:
            # Our own doing, most often a loop that stood still: it costs the job nothing.
            return Settlement(self.job.id, self.job.lease, "release")
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
        answer = await self._isolated.run(
            {
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
        match answer.kind:
            case "result":
                return Settlement(job.id, job.lease, "complete", result=answer.body)
            case "snooze":
                return Settlement(job.id, job.lease, "snooze", delay=answer.body)
            case _:
                failure = IsolatedFailure(answer.body["type"], answer.body["message"], answer.body["traceback"])
                return self._failure(failure, delay=None if answer.kind == "invalid" else self._delay(dice))

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
