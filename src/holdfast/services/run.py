"""One run of one job in this process: its cancellation, and what its end means for the ledger."""

import asyncio
import contextvars
import json
import logging
import os
import re
import sysconfig
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from holdfast.core import retry
from holdfast.core.fingerprint import fingerprint
from holdfast.core.kind import Kind
from holdfast.core.payload import storable
from holdfast.errors import GiveUp, InvalidResult
from holdfast.postgres.calls import Claimed, Settlement
from holdfast.services.context import Context, JobSnoozed, Report, leave_context, use_context
from holdfast.services.deadlines import Deadlines
from holdfast.services.isolation import (
    Answer,
    IsolatedCall,
    IsolatedFailure,
    Isolation,
    ProcessCrashed,
    ProcessFenced,
)

if TYPE_CHECKING:
    from holdfast.postgres.transactions import Transactions

MAX_TRACEBACK = 8_000
MAX_MESSAGE = 2_000


class StopReason(StrEnum):
    """Why a run is asked to end before its handler did."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    DRAIN = "drain"
    LOST = "lost"
    FENCED = "fenced"


class NotCommitted(Exception):
    """A handler settled its job in its own transaction, and that was not committed when the handler returned."""


class Run:
    """A claimed job in this process, from the answer of the claim to the answer of the settle."""

    __slots__ = (
        "_cancelled_for",
        "_deadlines",
        "_isolated",
        "_isolation",
        "_lost_after",
        "_report",
        "_thread",
        "_worker_id",
        "began_at",
        "begun",
        "context",
        "finished",
        "job",
        "kind",
        "ran",
        "stop_reason",
        "stopped_at",
        "task",
    )

    def __init__(
        self,
        job: Claimed,
        kind: Kind,
        report: Report,
        transactions: "Transactions | None",
        isolation: Isolation | None = None,
        *,
        deadlines: Deadlines,
        worker_id: UUID,
        lost_after: float = 25.0,
    ) -> None:
        self.job = job
        self.kind = kind
        self.context = Context(job, report, transactions, worker_id=worker_id, lost_after=lost_after)
        self._report = report
        self._isolation = isolation
        self._deadlines = deadlines
        self._worker_id = worker_id
        self._lost_after = lost_after
        self.stop_reason: StopReason | None = None
        self.stopped_at: float | None = None
        self.begun = False
        self.began_at = time.monotonic()
        self.ran = 0.0
        self.finished = False
        self.task: asyncio.Task[None] | None = None
        self._cancelled_for: tuple[StopReason, ...] = ()
        self._thread: asyncio.Future[Any] | None = None
        self._isolated: IsolatedCall | None = None

    @property
    def settling(self) -> bool:
        """Whether the ledger is being told how this run ended, or has been: its own answer decides from here on."""
        return self.finished or self.context.is_settled

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
        may_cancel = self.begun and self._thread is None and not self.finished and not self.context.is_committing
        if self.task is not None and may_cancel and reason not in self._cancelled_for:
            self._cancelled_for += (reason,)
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
        if self.stop_reason is StopReason.LOST or (self.context.is_settled and not self.context.is_unsure):
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
        timeout = self.job.timeout
        deadline = timeout and self._deadlines.add(timeout.total_seconds(), self._time_out)
        try:
            if self.kind.isolation == "process":
                return await self._call_isolated(dice)
            value = await self._call(arguments, threads)
            return Settlement(self.job.id, self.job.lease, "complete", result=self.kind.encode_result(value))
        except JobSnoozed as snoozed:
            return Settlement(self.job.id, self.job.lease, "snooze", delay=snoozed.delay)
        except (InvalidResult, GiveUp) as error:
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
            if deadline:
                self._deadlines.drop(deadline)

    async def _call(self, arguments: dict[str, Any], threads: Executor) -> Any:
        first = (self.context,) if self.kind.wants_context else ()
        outside = use_context(self.context)
        try:
            if self.kind.is_async:
                return await self.kind.handler(*first, **arguments)
            inside = contextvars.copy_context()
            self._thread = asyncio.get_running_loop().run_in_executor(
                threads, lambda: inside.run(_call_plain, self.kind.handler, first, arguments)
            )
            return await self._thread
        finally:
            leave_context(outside)

    async def _call_isolated(self, dice: float) -> Settlement:
        if self._isolation is None:
            raise RuntimeError("isolation 'process' needs a worker that was started with module:attribute")
        job = self.job
        self._isolated = IsolatedCall(self._isolation, lambda text: asyncio.wrap_future(self._report(text)))
        answer = await self._answer_of_child(
            {
                "worker_id": str(self._worker_id),
                "lost_after": self._lost_after,
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
        self.context.doubt(answer.is_unsure)
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
            self.context.doubt(True)  # it may have settled its job before it died
            raise

    def _time_out(self) -> None:
        self.stop(StopReason.TIMEOUT)

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


#: Where code lies that is not the handler's: ours, Python's, and that of packages.
_OURS = str(Path(__file__).resolve().parent.parent)
_PYTHONS = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.__file__)})
_PACKAGES = re.compile(r"[\\/](?:site|dist)-packages[\\/]|^<")


def _own_frames(error: BaseException) -> list[str]:
    """Places in the handler's own code; where an error was raised below it, that is where it called what failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    own = [each for each in frames if not each.filename.startswith(_PYTHONS) and not _PACKAGES.search(each.filename)]
    return [f"{os.path.basename(frame.filename)}:{frame.name}" for frame in own or frames]


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"(its text cannot be shown: str() raised {type(broken).__name__})"
