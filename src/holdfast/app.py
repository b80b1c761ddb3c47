"""The composition root: settings in, wired services out. `Holdfast` is what a program holds."""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from uuid import UUID

from holdfast.config import Settings, load_settings
from holdfast.core.ids import uuid7
from holdfast.core.kind import Kind, Policy, make_kind
from holdfast.core.payload import encode, is_storable
from holdfast.core.ratelimit import Decision, Limit
from holdfast.core.retry import DEFAULT_RETRY, RetryPolicy
from holdfast.errors import (
    ConfigurationError,
    DatabaseError,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    JobNotFound,
    ResultTimeout,
)
from holdfast.postgres import calls, reads
from holdfast.postgres.database import Database, resolve_database
from holdfast.postgres.ledger import AsyncLedger, SyncLedger
from holdfast.services.enqueuer import Enqueuer
from holdfast.services.limiter import RateLimiter
from holdfast.services.limiter_sync import SyncRateLimiter
from holdfast.services.run import Context
from holdfast.services.waiter import Waiter

P = ParamSpec("P")
R = TypeVar("R")

MOST_DELAY = 10 * 366 * 86400.0

_random = random.SystemRandom()


def new_id() -> UUID:
    """An id for a job or a worker: unique, and sorted by the time it was made, to a quarter of a microsecond.

    The 12 bits behind the milliseconds hold their fraction (RFC 9562, section 6.2, method 3), so that jobs prepared one
    after the other keep that order.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    return uuid7(milliseconds, fraction << 62 | _random.getrandbits(62))


@dataclass(frozen=True)
class Options:
    """What may differ from job to job. Times in seconds."""

    queue: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    delay: float | None = None
    unique_key: str | None = None
    group_key: str | None = None
    limit_key: str | None = None
    id: UUID | None = None

    def __post_init__(self) -> None:
        _refuse_other_types(self)
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise InvalidArguments(f"run_at is {self.run_at!r}, which names no time zone; add one (datetime.UTC)")
        if self.run_at is not None and self.delay is not None:
            raise InvalidArguments("give run_at or delay, not both")
        if self.delay is not None and not 0 <= self.delay <= MOST_DELAY:
            raise InvalidArguments(f"delay is {self.delay!r}; it must be a number of seconds from 0 to ten years")
        if self.priority is not None and not -1000 <= self.priority <= 1000:
            raise InvalidArguments(f"priority is {self.priority}; it must be between -1000 (first) and 1000 (last)")
        for name in ("queue", "unique_key", "group_key", "limit_key"):
            value = getattr(self, name)
            if value is not None and not (1 <= len(value) <= 200 and is_storable(value)):
                raise InvalidArguments(
                    f"{name} is {value[:60]!r}; it must have 1 to 200 characters, no NUL and no lone surrogates"
                )


_WANTED: Mapping[str, tuple[tuple[type, ...], str]] = {
    "queue": ((str,), "text"),
    "priority": ((int,), "a whole number"),
    "run_at": ((datetime,), "a datetime"),
    "delay": ((int, float), "a number of seconds"),
    "unique_key": ((str,), "text"),
    "group_key": ((str,), "text"),
    "limit_key": ((str,), "text"),
    "id": ((UUID,), "a UUID"),
}


def _refuse_other_types(options: Options) -> None:
    for name, (types, what) in _WANTED.items():
        value = getattr(options, name)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            raise InvalidArguments(f"{name} is {value!r:.60}; it must be {what}")


class Job(Generic[R]):
    """A handle on a job in the ledger. `created` is False when an equal `unique_key` was queued or running already."""

    def __init__(self, holdfast: "Holdfast", id: UUID, *, kind: str, created: bool = True) -> None:
        self._holdfast = holdfast
        self.id = id
        self.kind = kind
        self.created = created

    async def result(self, timeout: float | None = None) -> R:
        """Wait until the job has ended and return what its handler returned, as JSON gives it back.

        Raises `JobFailed` (it is dead), `JobCancelled`, `JobNotFound` (missing from the ledger for 5 seconds), or
        `ResultTimeout` after `timeout` seconds; the job itself goes on then.
        """
        outcome = await self._holdfast._wait(self.id, timeout)
        if outcome.status == "succeeded":
            value: R = outcome.result
            return value
        if outcome.status == "cancelled":
            raise JobCancelled(f"job {self.id} ({self.kind}) was cancelled")
        error = outcome.error or {}
        raise JobFailed(f"job {self.id} ({self.kind}) is dead: {error.get('type')}: {error.get('message')}")

    async def status(self) -> str:
        """queued, running, succeeded, dead or cancelled; `JobNotFound` when retention has removed it."""
        return (await self._holdfast.get(self.id)).status

    async def cancel(self) -> str:
        """Ask for cancellation: cancelled (it had not begun), requested, finished or not_found."""
        return (await self._holdfast.cancel([self.id]))[0].verdict

    def __repr__(self) -> str:
        return f"Job({self.kind}, {self.id})"


class JobKind(Generic[P, R]):
    """A handler that can be enqueued. Calling it runs it here and now, as the plain function it is."""

    def __init__(self, holdfast: "Holdfast", kind: Kind, options: Options | None = None) -> None:
        self._holdfast = holdfast
        self.kind = kind
        self._options = options or Options()

    @property
    def name(self) -> str:
        """What the ledger calls this kind."""
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
    ) -> "JobKind[P, R]":
        """The same kind with options for the jobs enqueued through it: `remind.options(delay=60).enqueue(...)`."""
        given = {
            "queue": queue, "priority": priority, "run_at": run_at, "delay": delay, "unique_key": unique_key,
            "group_key": group_key, "limit_key": limit_key, "id": id,
        }  # fmt: skip
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return JobKind(self._holdfast, self.kind, replace(self._options, **changes))

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> calls.NewJob:
        """A checked job that is not written yet, for `Holdfast.enqueue_many`."""
        options = self._options
        return calls.NewJob(
            id=options.id or new_id(),
            queue=options.queue or self.kind.queue,
            kind=self.kind.name,
            args=self.kind.encode_arguments(args, kwargs),
            policy=self._holdfast._policy_text(self.kind.policy),
            priority=options.priority if options.priority is not None else (self.kind.priority or None),
            run_at=options.run_at,
            delay=options.delay,
            unique_key=options.unique_key,
            group_key=options.group_key,
            # A limit of the kind is shared by all its jobs, unless a key parts them.
            limit_key=options.limit_key or (None if self.kind.policy.limit_max is None else self.kind.name),
        )

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Write a job with these arguments; returns when it is committed.

        Raises `InvalidArguments`, `DatabaseUnavailable`.
        """
        (job,) = await self._holdfast.enqueue_many([self.prepare(*args, **kwargs)])
        return job

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """`enqueue` for programs without an event loop."""
        (job,) = self._holdfast.enqueue_many_sync([self.prepare(*args, **kwargs)])
        return job

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.kind.handler(*args, **kwargs)


class Holdfast:
    """Job kinds, and the ledger that their jobs are in. Connects on first use.

    >>> hf = Holdfast()
    >>> @hf.job(queue="mail", max_attempts=3)
    ... async def send_mail(to: str) -> str:
    ...     return f"sent to {to}"
    >>> send_mail.name
    'send_mail'
    """

    def __init__(self, database_url: str | None = None, *, settings: Settings | None = None) -> None:
        self._database_url = database_url
        self._settings = settings
        self._kinds: dict[str, Kind] = {}
        self._policies: dict[Policy, str] = {}
        self._database: Database | None = None
        self._resolving = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ledger: AsyncLedger | None = None
        self._enqueuer: Enqueuer | None = None
        self._waiter: Waiter | None = None
        self._waiter_ledger: AsyncLedger | None = None
        self._sync: SyncLedger | None = None
        self._limiter: tuple[asyncio.AbstractEventLoop, RateLimiter] | None = None
        self._sync_limiter: SyncRateLimiter | None = None

    # Kinds ---------------------------------------------------------------------------------------------------

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The kinds registered here, by name."""
        return self._kinds

    def job(
        self,
        name: str | None = None,
        *,
        queue: str = "default",
        priority: int = 0,
        max_attempts: int = 5,
        max_crashes: int = 3,
        retry: RetryPolicy = DEFAULT_RETRY,
        timeout: float | None = 3600.0,
        silent_after: float | None = None,
        rescue: str = "requeue",
        isolation: str | None = None,
        limit: int | None = None,
    ) -> "_Decorator":
        """Register a function, async or plain, as the handler of a kind of job.

        name: what the ledger calls it; the function's name by default. Jobs in the ledger refer to it.
        priority: -1000 (first) to 1000 (last).
        max_attempts: failures (exceptions, time-outs) until the job is dead.
        max_crashes: crashes of its process while it ran alone in quarantine until the job is dead.
        timeout: seconds until a run is cancelled; None must be written to have none.
        silent_after: seconds; the handler then owes `ctx.heartbeat()` more often than that.
        rescue: "requeue", or "dead" for what must not run twice.
        isolation: "async" or "thread", by the kind of function; or "process": a process of its own for each run, which
            can be killed and takes nobody with it. It costs the start of an interpreter.
        limit: how many jobs of this kind may run at a time, over all workers.
        """
        policy = Policy(
            max_attempts=max_attempts,
            max_crashes=max_crashes,
            retry=retry,
            rescue=rescue,
            timeout=timeout,
            silent_after=silent_after,
            limit_max=limit,
        )
        return _Decorator(
            self,
            lambda handler: make_kind(
                handler,
                name=name or handler.__name__,
                queue=queue,
                priority=priority,
                policy=policy,
                context_type=Context,
                isolation=isolation,
            ),
        )

    def served_queues(self, settings: Settings) -> tuple[str, ...]:
        """The queues that a worker of this program serves: those of the settings, else those of its kinds."""
        return settings.queues or tuple(sorted({kind.queue for kind in self._kinds.values()})) or ("default",)

    def _register(self, kind: Kind) -> Kind:
        earlier = self._kinds.get(kind.name)
        if earlier is not None and earlier.handler is not kind.handler:
            raise ConfigurationError(f"two handlers are called {kind.name!r}; give one of them another name")
        self._kinds[kind.name] = kind
        return kind

    def _policy_text(self, policy: Policy) -> str:
        if policy not in self._policies:
            self._policies[policy] = encode(policy.as_json(), what="policy")
        return self._policies[policy]

    # Jobs ----------------------------------------------------------------------------------------------------

    async def enqueue_many(self, jobs: Iterable[calls.NewJob]) -> list[Job[Any]]:
        """Write prepared jobs, in transactions of at most 1,000; the handles in the same order.

        >>> async def welcome(users):
        ...     return await hf.enqueue_many(send_mail.prepare(to=user) for user in users)
        """
        prepared = list(jobs)
        answers = await (await self._open()).enqueue(prepared)
        return self._handles(prepared, answers)

    def enqueue_many_sync(self, jobs: Iterable[calls.NewJob]) -> list[Job[Any]]:
        """`enqueue_many` for programs without an event loop."""
        prepared = list(jobs)
        if self._sync is None:
            self._sync = SyncLedger(self.database.dsn, name="holdfast enqueue")
        answers: list[calls.Enqueued] = []
        for start in range(0, len(prepared), 1000):
            chunk = prepared[start : start + 1000]
            call = calls.enqueue_many(chunk)
            try:
                found = self._sync.call(call)
            except DatabaseError:
                # The commit may have happened. The ids are ours, so the same call again doubles nothing.
                found = self._sync.call(call)
            answers += sorted(found, key=lambda answer: answer.ord)
            with contextlib.suppress(DatabaseError):  # a bell may be lost: workers poll
                self._sync.call(calls.ring(sorted({job.queue for job in chunk})))
        return self._handles(prepared, answers)

    def _handles(self, prepared: list[calls.NewJob], answers: list[calls.Enqueued]) -> list[Job[Any]]:
        return [
            Job(self, answer.id, kind=job.kind, created=answer.created)
            for job, answer in zip(prepared, answers, strict=True)
        ]

    async def get(self, id: UUID) -> reads.JobRow:
        """A job as the ledger has it; `JobNotFound` when it has none of that id."""
        await self._open()
        assert self._ledger is not None
        rows = await self._ledger.call(reads.job(id))
        if not rows:
            raise JobNotFound(f"no job has the id {id}; it may have been removed after its retention")
        return rows[0]

    async def cancel(self, ids: list[UUID]) -> list[calls.JobVerdict]:
        """Ask for jobs to be cancelled; each verdict is cancelled, requested, finished or not_found."""
        await self._open()
        assert self._ledger is not None
        return await self._ledger.call(calls.cancel_jobs(ids))

    async def retry(self, ids: list[UUID]) -> list[calls.JobVerdict]:
        """Give ended jobs another life; each verdict is queued, unique_taken, running, succeeded or not_found."""
        await self._open()
        assert self._ledger is not None
        return await self._ledger.call(calls.retry_jobs(ids))

    # Rate limits ---------------------------------------------------------------------------------------------

    async def rate_limit(self, key: str, limit: int, window: float = 60.0, *, cost: int = 1) -> Decision:
        """Ask for a request of `key` to be admitted: at most `limit` in any `window` seconds, over all processes.

        Decided in Postgres within 50 ms; while that does not answer, in this process's memory by the same rule, which
        the decision's `source` tells. Never raises for want of Postgres.

        >>> async def may_send(user: str) -> bool:
        ...     decision = await hf.rate_limit(f"mail:{user}", 100, 60)
        ...     return decision.allowed  # else: again after decision.retry_after seconds
        """
        return await (await self._open_limiter()).hit(key, Limit(limit, window), cost=cost)

    def rate_limit_sync(self, key: str, limit: int, window: float = 60.0, *, cost: int = 1) -> Decision:
        """`rate_limit` for programs without an event loop; its threads share round trips."""
        if self._sync_limiter is None:
            url = self.settings.database_url
            self._sync_limiter = SyncRateLimiter(url.get_secret_value() if url else self.database.dsn)
        return self._sync_limiter.hit(key, Limit(limit, window), cost=cost)

    async def _open_limiter(self) -> RateLimiter:
        loop = asyncio.get_running_loop()
        if self._limiter is None or self._limiter[0] is not loop:
            url = self.settings.database_url
            dsn = url.get_secret_value() if url else (await asyncio.to_thread(lambda: self.database)).dsn
            if self._limiter is not None and self._limiter[0] is loop:
                return self._limiter[1]  # somebody else was quicker, who came at the same time
            limiter = RateLimiter(dsn)
            self._limiter = (loop, limiter)
            await limiter.start()
        await self._limiter[1].looked()
        return self._limiter[1]

    async def _wait(self, id: UUID, timeout: float | None) -> reads.JobOutcome:
        await self._open()
        assert self._waiter is not None
        try:
            async with asyncio.timeout(timeout):
                return await self._waiter.wait(id)
        except TimeoutError:
            raise ResultTimeout(f"job {id} had not ended after {timeout:g} s; it goes on") from None

    # Connections ---------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings in force; read on first use."""
        if self._settings is None:
            self._settings = load_settings(database_url=self._database_url)
        return self._settings

    def use(self, settings: Settings) -> None:
        """Take these settings instead of reading them; before the first use of the ledger."""
        if self._database is not None:
            raise ConfigurationError("this Holdfast is connected already; call use() before anything else, or close()")
        self._settings = settings

    @property
    def database(self) -> Database:
        """The ledger's database: `DATABASE_URL`, or the local server, which is started when it does not run."""
        with self._resolving:
            if self._database is None:
                url = self.settings.database_url
                self._database = resolve_database(
                    None if url is None else url.get_secret_value(), data_dir=self.settings.data_dir
                )
            return self._database

    async def _open(self) -> Enqueuer:
        loop = asyncio.get_running_loop()
        if self._enqueuer is None or self._loop is not loop:
            database: Database = await asyncio.to_thread(lambda: self.database)
            if self._enqueuer is not None and self._loop is loop:
                return self._enqueuer  # somebody else was quicker, who came at the same time
            self._loop = loop
            self._ledger = AsyncLedger(database.dsn, name="holdfast app")
            self._enqueuer = Enqueuer(self._ledger)
            self._waiter_ledger = AsyncLedger(database.dsn, name="holdfast wait")
            self._waiter = Waiter(self._waiter_ledger)
        return self._enqueuer

    async def close(self) -> None:
        """Write and ring what is under way, and close all connections. The object can be used again."""
        if self._limiter is not None and self._limiter[0] is asyncio.get_running_loop():
            await self._limiter[1].stop()
        self._limiter = None
        if self._enqueuer is not None and self._loop is asyncio.get_running_loop():
            await self._enqueuer.idle()
            for ledger in (self._ledger, self._waiter_ledger):
                if ledger is not None:
                    await ledger.close()
            if self._waiter is not None:
                self._waiter.close()
        self._enqueuer = self._ledger = self._waiter = self._waiter_ledger = None
        self.close_sync()

    def close_sync(self) -> None:
        """`close` for programs without an event loop. Also lets go of the local server, if this program used one."""
        if self._sync is not None:
            self._sync.close()
            self._sync = None
        if self._sync_limiter is not None:
            self._sync_limiter.close()
            self._sync_limiter = None
        if self._database is not None:
            self._database.release()
            self._database = None

    async def __aenter__(self) -> "Holdfast":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Decorator:
    """What `Holdfast.job` returns: keeps the types of the function it decorates."""

    def __init__(self, holdfast: Holdfast, make: Callable[[Callable[..., Any]], Kind]) -> None:
        self._holdfast = holdfast
        self._make = make

    @overload
    def __call__(self, handler: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[Context, P], R]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, Coroutine[Any, Any, R]]) -> JobKind[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, R]) -> JobKind[P, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> JobKind[Any, Any]:
        return JobKind(self._holdfast, self._holdfast._register(self._make(handler)))
