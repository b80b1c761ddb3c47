"""Jobs that run where they are enqueued, without a ledger."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from unittest import mock
from uuid import UUID

from holdfast.app import Holdfast
from holdfast.core.ids import job_id
from holdfast.errors import ConfigurationError, JobNotFound
from holdfast.handles import Job, JobKind, prepared_jobs
from holdfast.postgres.calls import Claimed, NewJob
from holdfast.postgres.reads import JobOutcome, JobRow
from holdfast.services.context import JobSnoozed
from holdfast.services.standin import StandInContext
from holdfast.testing.execution import blocking, call
from holdfast.testing.expectations import Expectations


@contextlib.contextmanager
def inline(hf: Holdfast) -> Iterator["Inline"]:
    """While this lasts, enqueueing runs the handler at once, and raises what it raises. Nothing is stored anywhere.

    Arguments and results go through JSON as they would. Delays, priorities and unique keys count for nothing, `conn` is
    not touched, and a job that snoozes stays queued. `ctx.complete` notes its result; `ctx.transaction` needs a
    `sandbox`.

    >>> from holdfast.testing import inline
    >>> with inline(hf) as jobs:
    ...     job = await send_mail.enqueue(to="ada@example.org")
    ...     print(await job.result())
    sent to ada@example.org
    >>> jobs.assert_enqueued(send_mail, to="ada@example.org").status
    'succeeded'
    """
    made = Inline(hf)
    methods = (
        "enqueue_many", "enqueue_many_sync", "outcome", "outcome_sync", "get", "get_sync", "cancel", "cancel_sync",
        "retry", "retry_sync",
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name in methods:
            stack.enter_context(mock.patch.object(hf, name, getattr(made, name, made.refuse)))
        yield made


class Inline(Expectations):
    """The jobs of an `inline` block.

    >>> from holdfast.testing import inline
    >>> with inline(hf) as jobs:
    ...     handle = send_mail.options(queue="slow").enqueue_sync(to="ada@example.org")
    >>> [(job.kind, job.queue, job.status, job.result) for job in jobs.enqueued()]
    [('send_mail', 'slow', 'succeeded', 'sent to ada@example.org')]
    """

    def __init__(self, hf: Holdfast) -> None:
        self._hf = hf
        self._rows: dict[UUID, JobRow] = {}

    def enqueued(self, kind: JobKind[..., Any] | None = None) -> list[JobRow]:
        """The jobs in the order in which they were enqueued; of one kind, or all."""
        return [row for row in self._rows.values() if kind is None or row.kind == kind.name]

    async def enqueue_many(self, jobs: Iterable[NewJob], *, conn: object = None) -> list[Job[Any]]:
        return [await self._run(job) for job in prepared_jobs(jobs)]

    def enqueue_many_sync(self, jobs: Iterable[NewJob], *, conn: object = None) -> list[Job[Any]]:
        return [blocking(self._run(job)) for job in prepared_jobs(jobs)]

    async def outcome(self, id: UUID, timeout: float | None) -> JobOutcome:
        return self.outcome_sync(id, timeout)

    def outcome_sync(self, id: UUID, _: float | None) -> JobOutcome:
        row = self.get_sync(id)
        if row.status == "queued":
            raise AssertionError(f"job {id} ({row.kind}) has not ended: it snoozed; drain it in a sandbox")
        return JobOutcome(id, row.status, row.result, row.error)

    async def get(self, id: UUID | str) -> JobRow:
        return self.get_sync(id)

    def get_sync(self, id: UUID | str) -> JobRow:
        row = self._rows.get(job_id(id))
        if row is None:
            raise JobNotFound(f"no job has the id {id}; it was not enqueued in this inline block")
        return row

    def refuse(self, *_: object) -> NoReturn:
        """Jobs that have ended at once can be neither cancelled nor retried."""
        raise ConfigurationError("inline jobs end at once: cancel and retry need a sandbox")

    async def _run(self, job: NewJob) -> Job[Any]:
        kind = self._hf.kinds[job.kind]
        row = self._rows[job.id] = _new_row(job)
        context = _context_of(row)
        arguments = kind.decode_arguments(row.args)
        try:
            returned = await call(kind, context, arguments)
        except JobSnoozed:
            return Job(self._hf, job.id, kind=job.kind)
        except BaseException as error:
            stored = {"type": type(error).__name__, "message": str(error)}
            self._set(job.id, status="dead", error=stored, progress=context.told)
            raise
        result = context.completed if context.is_completed else json.loads(kind.encode_result(returned))
        self._set(job.id, status="succeeded", result=result, progress=context.told)
        return Job(self._hf, job.id, kind=job.kind)

    def _set(self, id: UUID, **changes: Any) -> None:
        self._rows[id] = dataclasses.replace(self._rows[id], **changes)


def _context_of(row: JobRow) -> StandInContext:
    known = {name: getattr(row, name) for name in Claimed._fields if name not in ("claimed_at", "lease")}
    return StandInContext(Claimed(**known, claimed_at=row.created_at, lease=1))


def _new_row(job: NewJob) -> JobRow:
    now = datetime.now(UTC)
    values: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(JobRow))
    run_at = job.run_at or now + timedelta(seconds=job.delay or 0)
    return JobRow(
        **{
            **values,
            **{name: getattr(job, name) for name in ("id", "queue", "kind", "unique_key", "group_key", "limit_key")},
            "args": json.loads(job.args), "status": "queued", "priority": job.priority or 0, "run_at": run_at,
            "created_at": now, "attempts": 0, "max_attempts": 1, "crashes": 0, "suspect": False, "lease": 0,
        }
    )  # fmt: skip
