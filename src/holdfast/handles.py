"""What a program holds: a kind of job that it can enqueue, and a handle on each job."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar
from uuid import UUID

from holdfast.core.ids import job_id
from holdfast.core.kind import Kind
from holdfast.core.options import Options
from holdfast.errors import InvalidArguments, JobCancelled, JobFailed
from holdfast.postgres import calls
from holdfast.services.context import Context, current_context
from holdfast.services.standin import stand_in

if TYPE_CHECKING:
    from holdfast.postgres.reads import JobOutcome, JobRow

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Program(Protocol):
    """What handles need of the `Holdfast` that they came from."""

    @property
    def kinds(self) -> Mapping[str, Kind]: ...
    def new_id(self) -> UUID: ...
    async def enqueue_many(self, jobs: Iterable[calls.NewJob], *, conn: object = None) -> "list[Job[Any]]": ...
    def enqueue_many_sync(self, jobs: Iterable[calls.NewJob], *, conn: object = None) -> "list[Job[Any]]": ...
    async def outcome(self, id: UUID, timeout: float | None) -> "JobOutcome": ...
    def outcome_sync(self, id: UUID, timeout: float | None) -> "JobOutcome": ...
    async def get(self, id: UUID) -> "JobRow": ...
    def get_sync(self, id: UUID) -> "JobRow": ...
    async def cancel(self, ids: list[UUID]) -> list[calls.JobVerdict]: ...
    def cancel_sync(self, ids: list[UUID]) -> list[calls.JobVerdict]: ...


class Job(Generic[R_co]):
    """A handle on a job in the ledger. `created` is False when an equal `unique_key` was queued or running already.

    >>> job = await send_mail.enqueue(to="ada@example.org")
    >>> job.kind, job.created
    ('send_mail', True)
    """

    def __init__(self, program: Program, id: UUID, *, kind: str | None, created: bool = True) -> None:
        self._program = program
        self.id = id
        self.kind = kind
        self.created = created

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait until the job has ended; what its handler returned, in the type that it is annotated with.

        timeout: seconds; None waits as long as it takes. However many wait, one statement asks for all of them.

        Raises `JobFailed` (it is dead), `JobCancelled`, `JobNotFound` (missing from the ledger for 5 seconds),
        `ResultTimeout` after `timeout` seconds (the job itself goes on), `InvalidResult` (a result that no longer fits
        its annotation), `DatabaseUnavailable`.

        >>> job = await send_mail.enqueue(to="ada@example.org")
        >>> await job.result(timeout=30)
        'sent to ada@example.org'
        """
        return self._read(await self._program.outcome(self.id, timeout))

    def result_sync(self, timeout: float | None = None) -> R_co:
        """`result` for programs without an event loop; threads that wait share one statement as well.

        >>> send_mail.enqueue_sync(to="ada@example.org").result_sync(timeout=30)
        'sent to ada@example.org'
        """
        return self._read(self._program.outcome_sync(self.id, timeout))

    async def status(self) -> str:
        """queued, running, succeeded, dead or cancelled; `JobNotFound` when retention has removed it.

        >>> job = await send_mail.options(delay=3600).enqueue(to="ada@example.org")
        >>> await job.status()
        'queued'
        """
        return (await self._program.get(self.id)).status

    def status_sync(self) -> str:
        """`status` for programs without an event loop.

        >>> send_mail.options(delay=3600).enqueue_sync(to="ada@example.org").status_sync()
        'queued'
        """
        return self._program.get_sync(self.id).status

    async def progress(self) -> Any:
        """What its handler told last with `ctx.progress`; None before that. `JobNotFound` as for `status`.

        >>> job = await send_mail.enqueue(to="ada@example.org")
        >>> print(await job.progress())
        None
        """
        return (await self._program.get(self.id)).progress

    def progress_sync(self) -> Any:
        """`progress` for programs without an event loop.

        >>> print(send_mail.enqueue_sync(to="ada@example.org").progress_sync())
        None
        """
        return self._program.get_sync(self.id).progress

    async def cancel(self) -> str:
        """Ask for cancellation: cancelled (it had not begun), requested, finished or not_found.

        A running job is told within a beat (5 s): an async handler is cancelled, a plain one sees `ctx.cancelled`.

        >>> job = await send_mail.options(delay=3600).enqueue(to="ada@example.org")
        >>> await job.cancel()
        'cancelled'
        """
        return (await self._program.cancel([self.id]))[0].verdict

    def cancel_sync(self) -> str:
        """`cancel` for programs without an event loop.

        >>> send_mail.options(delay=3600).enqueue_sync(to="ada@example.org").cancel_sync()
        'cancelled'
        """
        return self._program.cancel_sync([self.id])[0].verdict

    def _read(self, outcome: "JobOutcome") -> R_co:
        what = f"job {self.id}" + (f" ({self.kind})" if self.kind else "")
        if outcome.status == "succeeded":
            kind = self._program.kinds.get(self.kind or "")
            value: R_co = outcome.result if kind is None else kind.decode_result(outcome.result)
            return value
        if outcome.status == "cancelled":
            raise JobCancelled(f"{what} was cancelled")
        error = outcome.error or {}
        raise JobFailed(f"{what} is dead: {error.get('type')}: {error.get('message')}")

    def __repr__(self) -> str:
        return f"Job({self.kind or '?'}, {self.id})"


class JobKind(Generic[P, R]):
    """A handler that can be enqueued; what `Holdfast.job` makes of a function. Calling it runs it here and now.

    A handler that takes a `Context` is called without one, as it is enqueued: it gets that of the run that calls it;
    outside of a run one that no ledger knows of, whose `progress` goes nowhere and which has no `transaction`. A
    `Context` of your own may come first.

    >>> await send_mail(to="ada@example.org")
    'sent to ada@example.org'
    >>> @hf.job()
    ... async def count(ctx: Context, n: int) -> str:
    ...     await ctx.progress(n)
    ...     return f"{ctx.kind} {n}"
    >>> await count(n=3)
    'count 3'
    """

    def __init__(self, program: Program, kind: Kind, options: Options | None = None, conn: object = None) -> None:
        self._program = program
        self.kind = kind
        self._options = options or Options()
        self._conn = conn
        self.__doc__ = kind.handler.__doc__
        self.__wrapped__: Callable[..., Any] = kind.handler

    @property
    def name(self) -> str:
        """What the ledger calls this kind.

        >>> send_mail.name
        'send_mail'
        """
        return self.kind.name

    def options(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        run_at: datetime | None = None,
        delay: float | None = None,
        unique_key: str | None = None,
        group_key: str | None = None,
        limit_key: str | None = None,
        id: UUID | None = None,
        conn: object = None,
    ) -> "JobKind[P, R]":
        """The same kind with options for the jobs that are enqueued through it.

        queue, priority: other than the kind's; priority from -1000 (first) to 1000 (last).
        run_at, delay: not before this time (aware), or for so many seconds.
        unique_key: while a job of this kind and key is queued or running, enqueueing gives the handle of that job.
        group_key: of the jobs of a queue with this key one runs at a time.
        limit_key: shares the kind's `limit` with the jobs of this key only.
        id: the job's id, made by you; enqueueing it twice is one job.
        conn: your own connection or session (psycopg, SQLAlchemy, asyncpg, Django, psycopg2) with an open transaction:
            the job is written in it, and exists if and when you commit. Workers find it within a second.

        Raises `InvalidArguments` for a value that the ledger cannot hold.

        >>> job = await send_mail.options(delay=60, priority=-5, unique_key="ada").enqueue(to="ada@example.org")
        >>> again = await send_mail.options(unique_key="ada").enqueue(to="ada@example.org")
        >>> again.created, again.id == job.id
        (False, True)
        """
        given = {
            "queue": queue, "priority": priority, "run_at": run_at, "delay": delay, "unique_key": unique_key,
            "group_key": group_key, "limit_key": limit_key, "id": id,
        }  # fmt: skip
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return JobKind(
            self._program, self.kind, replace(self._options, **changes), self._conn if conn is None else conn
        )

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> calls.NewJob:
        """A checked job that is not written yet, for `Holdfast.enqueue_many`. Raises `InvalidArguments`.

        >>> send_mail.prepare(to="ada@example.org").args
        '{"to":"ada@example.org"}'
        """
        if self._conn is not None:
            raise InvalidArguments("prepare() writes nothing, so it takes no conn; give it to enqueue_many")
        return self._prepare(args, kwargs)

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> calls.NewJob:
        options = self._options
        arguments = self.kind.check_arguments(args, kwargs)
        return calls.NewJob(
            id=options.id or self._program.new_id(),
            queue=options.queue or self.kind.queue,
            kind=self.kind.name,
            args=arguments.text,
            policy=self.kind.policy.text,
            priority=options.priority if options.priority is not None else (self.kind.priority or None),
            run_at=options.run_at,
            delay=options.delay,
            unique_key=options.unique_key or arguments.unique_key,
            group_key=options.group_key or arguments.group_key,
            limit_key=options.limit_key or arguments.limit_key,
        )

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Write a job with these arguments; returns when it is committed (with `conn`: when it is written there).

        Raises `InvalidArguments`, `DatabaseUnavailable`, `InvalidConnection`.

        >>> job = await send_mail.enqueue(to="ada@example.org")
        >>> await job.result(timeout=30)
        'sent to ada@example.org'
        >>> await send_mail.enqueue(to=3)
        Traceback (most recent call last):
        holdfast.errors.InvalidArguments: send_mail: to: Input should be a valid string, got 3
        """
        (job,) = await self._program.enqueue_many([self._prepare(args, kwargs)], conn=self._conn)
        return job

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """`enqueue` for programs without an event loop.

        >>> send_mail.enqueue_sync(to="ada@example.org").kind
        'send_mail'
        """
        (job,) = self._program.enqueue_many_sync([self._prepare(args, kwargs)], conn=self._conn)
        return job

    def handle(self, id: UUID | str) -> Job[R]:
        """A handle on a job of this kind that is known by its id. Asks nothing of the ledger.

        id: a UUID, or its text, from a URL for example. Raises `InvalidArguments` for a text that is none.

        >>> job = await send_mail.enqueue(to="ada@example.org")
        >>> await send_mail.handle(job.id).result(timeout=30)
        'sent to ada@example.org'
        """
        return Job(self._program, job_id(id), kind=self.kind.name, created=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.kind.handler(*self._context(args, kwargs), *args, **kwargs)

    def _context(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Context, ...]:
        """What a direct call leaves out, as `enqueue` does: the types of a kind have no context in them."""
        given = (*args[:1], *kwargs.values())
        if not self.kind.wants_context or any(isinstance(each, Context) for each in given):
            return ()
        try:
            return (current_context(),)
        except LookupError:
            return (stand_in(self.kind, self._program.new_id(), kwargs, datetime.now(UTC)),)

    def __repr__(self) -> str:
        return f"JobKind({self.kind.name})"


def prepared_jobs(jobs: Iterable[calls.NewJob]) -> list[calls.NewJob]:
    """What was given to `enqueue_many`, as a list; `InvalidArguments` for what `JobKind.prepare` has not made."""
    found = list(jobs)
    for place, job in enumerate(found):
        if not isinstance(job, calls.NewJob):
            raise InvalidArguments(_not_prepared(place, job))
    return found


def _not_prepared(place: int, found: object) -> str:
    kind = found.name if isinstance(found, JobKind) else "send_mail"
    return f"enqueue_many takes prepared jobs, as {kind}.prepare(...) makes them; item {place} is {found!r:.60}"
