"""The composition root: settings in, wired services out. `Holdfast` is what a program holds."""

import asyncio
import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from holdfast.core.declaration import kind_name, refuse_bare
from holdfast.core.ids import job_id, job_ids, uuid7
from holdfast.core.keys import KeyBy
from holdfast.core.kind import CANARY, Kind, Policy, make_kind
from holdfast.core.ratelimit import Decision, Limit
from holdfast.core.retry import DEFAULT_RETRY, RetryPolicy
from holdfast.declaring import KindDecorator, PeriodicDecorator
from holdfast.errors import ConfigurationError, JobNotFound, ResultTimeout
from holdfast.handles import Job, JobKind, prepared_jobs
from holdfast.postgres import calls
from holdfast.services.context import Context

if TYPE_CHECKING:  # what needs the database's driver is imported when it is used, so that `import holdfast` is quick
    from holdfast.config import Settings
    from holdfast.postgres.database import Database
    from holdfast.postgres.ledger import SyncLedger
    from holdfast.postgres.reads import JobOutcome, JobRow
    from holdfast.services.client import Background, Client
    from holdfast.services.limiter import RateLimiter
    from holdfast.services.limiter_sync import SyncRateLimiter
    from holdfast.services.periodic import Periodic

#: What an open `Holdfast` holds.
_CONNECTED = ("_settings", "_database", "_clients", "_sync", "_background", "_limiters", "_sync_limiter")


def new_id() -> UUID:
    """An id for a job or a worker: unique, and sorted by the time it was made, to a quarter of a microsecond.

    The 12 bits behind the milliseconds hold their fraction (RFC 9562, section 6.2, method 3), so that jobs prepared one
    after the other keep that order.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    return uuid7(milliseconds, fraction << 62 | int.from_bytes(os.urandom(8)) >> 2)


class Holdfast:
    """Job kinds, and the ledger that their jobs are in. Connects on first use.

    database_url: the ledger's Postgres; else `DATABASE_URL` or the settings; else a local server of its own.

    >>> hf = Holdfast("postgresql://127.0.0.1/app")
    >>> @hf.job(queue="mail", max_attempts=3)
    ... async def send_mail(to: str) -> str:
    ...     return f"sent to {to}"
    >>> sorted(hf.kinds)
    ['send_mail']
    """

    def __init__(self, database_url: str | None = None, *, settings: "Settings | None" = None) -> None:
        self._database_url = database_url
        self._settings = settings
        self._kinds: dict[str, Kind] = {}
        self._periodics: dict[str, Periodic] = {}
        self._database: Database | None = None
        self._resolving = threading.Lock()
        self._clients: dict[asyncio.AbstractEventLoop, Client] = {}
        self._sync: SyncLedger | None = None
        self._background: tuple[Background, Client] | None = None
        self._limiters: dict[asyncio.AbstractEventLoop, RateLimiter] = {}
        self._sync_limiter: SyncRateLimiter | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=functools.partial(_begin_anew, weakref.ref(self)))

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
        rescue: Literal["requeue", "dead"] = "requeue",
        isolation: Literal["async", "thread", "process"] | None = None,
        unique: KeyBy | None = None,
        limit: int | None = None,
        limit_by: KeyBy | None = None,
        group_by: KeyBy | None = None,
    ) -> KindDecorator:
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
        unique: while a job with the same key is queued or running, enqueueing gives its handle instead of a second job.
            True: all arguments make the key; "to" or ("to", "subject"): these; a function of some of the arguments, by
            their names, gives the key, or None for none: lambda to: to.lower().
        limit: how many jobs of this kind may run at a time, over all workers.
        limit_by: the limit holds for each key (made as for `unique`), not for the kind: limit=2, limit_by="tenant".
        group_by: of the jobs of one key (made as for `unique`) in a queue, whatever their kinds, one runs at a time.

        Raises `ConfigurationError` for a value out of range, a handler whose arguments cannot be JSON, or a name twice.

        >>> @hf.job(queue="mail", retry=RetryPolicy(base=1, cap=60), unique="user", limit=2, limit_by="tenant")
        ... async def send_report(tenant: str, user: str) -> str:
        ...     return f"{user} of {tenant}"
        >>> job = await send_report.enqueue(tenant="acme", user="ada")
        >>> await job.result(timeout=30)
        'ada of acme'
        """
        refuse_bare(name, decorator="job")
        policy = Policy(
            max_attempts=max_attempts,
            max_crashes=max_crashes,
            retry=retry,
            rescue=rescue,
            timeout=timeout,
            silent_after=silent_after,
            limit_max=limit,
        )

        def make(handler: Callable[..., Any]) -> JobKind[..., Any]:
            kind = make_kind(
                handler,
                name=kind_name(name, handler),
                queue=queue,
                priority=priority,
                policy=policy,
                context_type=Context,
                isolation=isolation,
                unique=unique,
                group_by=group_by,
                limit_by=limit_by,
            )
            return JobKind(self, self._register(kind))

        return KindDecorator(make)

    def periodic(
        self,
        cron: str,
        *,
        tz: str = "UTC",
        name: str | None = None,
        overlap: bool = False,
        tick_as: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> PeriodicDecorator:
        """Enqueue a job at the times of a cron expression: above `job`, or alone, which makes a job with its defaults.

        cron: minute hour day-of-month month day-of-week, as in crontab(5); with six fields the first is the second.
        tz: the name of the time zone that the times are in. Where its clocks are set forward, a job at a skipped time
            runs right after; where they are set back, one at a repeated time runs once. Where the minutes or the hours
            begin with `*`, as in `0 */2 * * *`, or seconds are given, times that are skipped are passed over and
            repeated ones tick twice.
        name: what the ledger calls the schedule; the kind's name by default.
        overlap: whether a tick enqueues a job while that of the tick before is still queued or running.
        tick_as: the handler's argument that receives the time of the tick, an aware datetime.
        arguments: the others of the handler.

        Each tick is one job, however many processes there are; the ticks of an outage are one job. Any worker of a
        program that declares the schedule enqueues its jobs; once no program does, it is shown and does not tick.

        Raises `ConfigurationError` for an expression, time zone or argument that cannot be, and a name twice.

        >>> @hf.periodic("30 7 * * MON-FRI", tz="Europe/Berlin", tick_as="day", arguments={"to": "ada"})
        ... @hf.job(queue="mail")
        ... async def morning_report(to: str, day: datetime) -> str:
        ...     return f"{day:%A} for {to}"
        >>> hf.periodics["morning_report"].schedule.next_after(datetime(2026, 3, 27, 12, tzinfo=UTC)).isoformat()
        '2026-03-30T05:30:00+00:00'
        """
        from holdfast.periodics import make_periodic

        refuse_bare(cron, decorator="periodic")

        def make(handler: Callable[..., Any]) -> JobKind[..., Any]:
            kind = handler if isinstance(handler, JobKind) else self.job()(handler)
            self._declare(
                make_periodic(
                    kind, cron=cron, tz=tz, name=name, overlap=overlap, tick_as=tick_as, arguments=arguments or {}
                )
            )
            return kind

        return PeriodicDecorator(make)

    @property
    def periodics(self) -> "Mapping[str, Periodic]":
        """The schedules declared here, by name.

        >>> @hf.periodic("*/5 * * * *", name="five minutes")
        ... def poll() -> None: ...
        >>> hf.periodics["five minutes"].schedule.time_zone
        'UTC'
        """
        return self._periodics

    def served_kinds(self, settings: "Settings") -> Mapping[str, Kind]:
        """The kinds that a worker of this program runs: those of the settings, else all; unknown ones are refused."""
        unknown = [name for name in settings.kinds if name not in self._kinds]
        if unknown:
            raise ConfigurationError(f"this program has no kind of job {unknown[0]!r}; {_which_kinds(self._kinds)}")
        return {name: self._kinds[name] for name in settings.kinds} or self._kinds

    def served_queues(self, settings: "Settings") -> tuple[str, ...]:
        """The queues that a worker of this program serves: those of the settings, else those of its kinds."""
        kinds = self.served_kinds(settings).values()
        return settings.queues or tuple(sorted({kind.queue for kind in kinds})) or ("default",)

    def _register(self, kind: Kind) -> Kind:
        if kind.name == CANARY:
            raise ConfigurationError(f"kind {kind.name!r} is Holdfast's own; choose another name")
        earlier = self._kinds.get(kind.name)
        if earlier is not None and earlier.handler is not kind.handler:
            raise ConfigurationError(f"two handlers are called {kind.name!r}; give one of them another name")
        self._kinds[kind.name] = kind
        return kind

    def _declare(self, periodic: "Periodic") -> None:
        name = periodic.schedule.name
        if name in self._periodics:
            raise ConfigurationError(f"two schedules are called {name!r}; give one of them another name: name=...")
        self._periodics[name] = periodic

    def new_id(self) -> UUID:
        """An id for a job: unique, and sorted by the time it was made.

        >>> hf.new_id() < hf.new_id()
        True
        """
        return new_id()

    # Jobs ----------------------------------------------------------------------------------------------------

    async def enqueue_many(self, jobs: Iterable[calls.NewJob], *, conn: object = None) -> list[Job[Any]]:
        """Write prepared jobs, in transactions of at most 1,000; the handles in the same order.

        Where one of them fails, others may be written: give the same jobs again, and each is there once.

        conn: your own asyncio connection or session, with an open transaction: they are written in it (see
        `JobKind.options`). Raises `DatabaseUnavailable`, `InvalidConnection`; `InvalidArguments` for what is no
        prepared job.

        >>> jobs = await hf.enqueue_many(send_mail.prepare(to=f"user{n}@example.org") for n in range(3))
        >>> await jobs[2].result(timeout=30)
        'sent to user2@example.org'
        """
        with self._sending(prepared_jobs(jobs)) as prepared:
            if conn is None:
                return self._handles(prepared, await (await self._open()).enqueuer.enqueue(prepared))
            from holdfast.postgres import borrowed
            from holdfast.services.enqueuer import chunks, in_order

            answers: list[calls.Enqueued] = []
            for chunk in chunks(prepared):
                answers += in_order(chunk, await borrowed.run_async(conn, calls.enqueue_many(chunk)))
            return self._handles(prepared, answers)

    def enqueue_many_sync(self, jobs: Iterable[calls.NewJob], *, conn: object = None) -> list[Job[Any]]:
        """`enqueue_many` for programs without an event loop; `conn` is a blocking connection or session.

        >>> len(hf.enqueue_many_sync(send_mail.prepare(to=f"user{n}@example.org") for n in range(3)))
        3
        """
        from holdfast.services.enqueuer import SyncEnqueuer, chunks, in_order

        with self._sending(prepared_jobs(jobs)) as prepared:
            if conn is None:
                return self._handles(prepared, SyncEnqueuer(self._open_sync()).enqueue(prepared))
            from holdfast.postgres import borrowed

            answers: list[calls.Enqueued] = []
            for chunk in chunks(prepared):
                answers += in_order(chunk, borrowed.run(conn, calls.enqueue_many(chunk)))
            return self._handles(prepared, answers)

    def _sending(self, jobs: list[calls.NewJob]) -> "contextlib.AbstractContextManager[list[calls.NewJob]]":
        """The jobs as they are to be written: with the context of a span, where OpenTelemetry was asked for."""
        if not self.settings.otel:
            return contextlib.nullcontext(jobs)
        from holdfast.telemetry import sending

        return sending(self.settings, jobs)

    def _handles(self, prepared: list[calls.NewJob], answers: list[calls.Enqueued]) -> list[Job[Any]]:
        return [
            Job(self, job.id if answer.created else answer.id, kind=job.kind, created=answer.created)
            for job, answer in zip(prepared, answers, strict=True)
        ]

    def handle(self, id: UUID | str) -> Job[Any]:
        """A handle on a job of any kind that is known by its id. Asks nothing of the ledger.

        id: a UUID, or its text, from a URL for example. Raises `InvalidArguments` for a text that is none.

        >>> job = await send_mail.enqueue(to="ada@example.org")
        >>> await hf.handle(job.id).result(timeout=30)
        'sent to ada@example.org'
        """
        return Job(self, job_id(id), kind=None, created=False)

    async def get(self, id: UUID | str) -> "JobRow":
        """A job as the ledger has it, all its columns; `JobNotFound` when it has none of that id.

        >>> job = await send_mail.options(delay=3600).enqueue(to="ada@example.org")
        >>> (await hf.get(job.id)).args
        {'to': 'ada@example.org'}
        """
        from holdfast.postgres import reads

        return _only(id, await (await self._open()).ledger.call(reads.job(job_id(id))))

    def get_sync(self, id: UUID | str) -> "JobRow":
        """`get` for programs without an event loop.

        >>> hf.get_sync(send_mail.options(delay=3600).enqueue_sync(to="ada@example.org").id).status
        'queued'
        """
        from holdfast.postgres import reads

        return _only(id, self._open_sync().call(reads.job(job_id(id))))

    async def cancel(self, ids: Sequence[UUID | str]) -> list[calls.JobVerdict]:
        """Ask for jobs to be cancelled; each verdict is cancelled, requested, finished or not_found.

        >>> job = await send_mail.options(delay=3600).enqueue(to="ada@example.org")
        >>> [each.verdict for each in await hf.cancel([job.id])]
        ['cancelled']
        """
        return await (await self._open()).ledger.call(calls.cancel_jobs(job_ids(ids)))

    def cancel_sync(self, ids: Sequence[UUID | str]) -> list[calls.JobVerdict]:
        """`cancel` for programs without an event loop.

        >>> job = send_mail.options(delay=3600).enqueue_sync(to="ada@example.org")
        >>> hf.cancel_sync([job.id])[0].status
        'cancelled'
        """
        return self._open_sync().call(calls.cancel_jobs(job_ids(ids)))

    async def retry(self, ids: Sequence[UUID | str]) -> list[calls.JobVerdict]:
        """Give ended jobs another life, and wake those that wait; each verdict is queued, unique_taken, running,
        succeeded or not_found.

        >>> job = await send_mail.options(delay=3600).enqueue(to="ada@example.org")
        >>> await job.cancel()
        'cancelled'
        >>> [each.verdict for each in await hf.retry([job.id])]
        ['queued']
        """
        return await (await self._open()).ledger.call(calls.retry_jobs(job_ids(ids)))

    def retry_sync(self, ids: Sequence[UUID | str]) -> list[calls.JobVerdict]:
        """`retry` for programs without an event loop.

        >>> job = send_mail.options(delay=3600).enqueue_sync(to="ada@example.org")
        >>> hf.retry_sync([job.id])[0].verdict
        'queued'
        """
        return self._open_sync().call(calls.retry_jobs(job_ids(ids)))

    async def outcome(self, id: UUID, timeout: float | None) -> "JobOutcome":
        """Wait until a job has ended, for `Job.result`. Raises `ResultTimeout`, `JobNotFound`."""
        return await _outcome(await self._open(), id, timeout)

    def outcome_sync(self, id: UUID, timeout: float | None) -> "JobOutcome":
        """`outcome` for programs without an event loop."""
        background, client = self._open_background()
        return background.run(_outcome(client, id, timeout))

    # A worker inside this program ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def worker(
        self,
        *,
        queues: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        slots: int | None = None,
        drain_timeout: float | None = None,
    ) -> AsyncIterator[None]:
        """Run jobs in this program's own process and event loop while the block lasts, for small deployments.

        queues, kinds, slots, drain_timeout: as the settings of those names, which count where nothing is given here.

        Leases, retries, schedules and the sweeps are those of `holdfast worker`. What it promises less, for want of a
        supervisor:

        - Nobody sees this process die. Its jobs are rescued by another Holdfast process within 35 s, not within 1;
          where there is no other, by this one within 35 s of its next start.
        - There is no quarantine. A job that took part in two crashes is suspect, and waits for a `holdfast worker`.
        - Handlers share the event loop and the interpreter with the program: what blocks one blocks the other, and the
          crash of one ends the other. Kinds with `isolation="process"` need the setting `app`.
        - Where a handler that must stop ignores its cancellation, this process ends (exit code 75 or 77), as a worker
          process would. Let the platform start it again.

        Raises `ConfigurationError`, `DatabaseUnavailable`, `SchemaMismatch` at the start; later outages pass.

        >>> async with hf.worker(slots=2):
        ...     print(await (await send_mail.enqueue(to="ada@example.org")).result(timeout=30))
        sent to ada@example.org
        """
        from holdfast.hosting import inside_worker

        changes = {"queues": queues, "kinds": kinds, "slots": slots, "drain_timeout": drain_timeout}
        settings = self.settings.with_changes(**changes)
        served = self.served_kinds(settings)
        database = await asyncio.to_thread(lambda: self.database)
        inside = inside_worker(
            settings, served, self.served_queues(settings), self.periodics, database.dsn, new_id=new_id
        )
        running = asyncio.create_task(inside.run())
        try:
            yield
        finally:
            inside.stop()
            await running

    def lifespan(self, **options: Any) -> "Callable[[object], contextlib.AbstractAsyncContextManager[None]]":
        """For FastAPI and Starlette: a worker inside the application, and everything closed at its end.

        options: those of `worker`, whose docstring says what a worker without a supervisor promises less.

        >>> from fastapi import FastAPI
        >>> app = FastAPI(lifespan=hf.lifespan(slots=2))
        """

        @contextlib.asynccontextmanager
        async def run(_: object) -> AsyncIterator[None]:
            async with self, self.worker(**options):
                yield

        return run

    # Rate limits ---------------------------------------------------------------------------------------------

    async def rate_limit(self, key: str, limit: int, window: float = 60.0, *, cost: int = 1) -> Decision:
        """Ask for a request of `key` to be admitted: at most `limit` in any `window` seconds, over all processes.

        Decided in Postgres, which has 50 ms to answer; when it does not, in this process's memory by the same rule,
        which the decision's `source` tells. Never raises for want of Postgres.

        >>> decision = await hf.rate_limit("user:42", limit=100, window=60)
        >>> decision.allowed, decision.remaining  # refused: again after decision.retry_after seconds
        (True, 99)
        """
        return await (await self._open_limiter()).hit(key, Limit(limit, window), cost=cost)

    def rate_limit_sync(self, key: str, limit: int, window: float = 60.0, *, cost: int = 1) -> Decision:
        """`rate_limit` for programs without an event loop; its threads share round trips.

        >>> hf.rate_limit_sync("user:43", limit=100, window=60).remaining
        99
        """
        return self._open_sync_limiter().hit(key, Limit(limit, window), cost=cost)

    def _open_sync_limiter(self) -> "SyncRateLimiter":
        from holdfast.services.limiter_sync import SyncRateLimiter

        with self._resolving:
            if self._sync_limiter is None:
                url = self.settings.database_url
                self._sync_limiter = SyncRateLimiter(url.get_secret_value() if url else self._resolved().dsn)
            return self._sync_limiter

    async def _open_limiter(self) -> "RateLimiter":
        from holdfast.services.limiter import RateLimiter

        loop = asyncio.get_running_loop()
        if loop not in self._limiters:
            url = self.settings.database_url
            dsn = url.get_secret_value() if url else (await asyncio.to_thread(lambda: self.database)).dsn
            if loop not in self._limiters:  # else somebody else was quicker, who came at the same time
                self._abandon_ended_loops()
                self._limiters[loop] = limiter = RateLimiter(dsn)
                await limiter.start()
        limiter = self._limiters[loop]
        await limiter.looked()
        return limiter

    # Connections ---------------------------------------------------------------------------------------------

    @property
    def settings(self) -> "Settings":
        """The settings in force; read on first use."""
        if self._settings is None:
            from holdfast.config import load_settings

            self._settings = load_settings(giver="Holdfast(...)", database_url=self._database_url)
        return self._settings

    def use(self, settings: "Settings") -> None:
        """Take these settings instead of reading them; before the first use of the ledger."""
        if self._database is not None:
            raise ConfigurationError("this Holdfast is connected already; call use() before anything else, or close()")
        self._settings = settings

    @contextlib.contextmanager
    def elsewhere(self, settings: "Settings") -> Iterator[None]:
        """Use other settings while the block lasts, for `holdfast.testing`; what is open now stays, for afterwards."""
        kept = {name: getattr(self, name) for name in _CONNECTED}
        self._database = None
        self._forget()
        self._settings = settings
        try:
            yield
        finally:
            for client in self._clients.values():
                client.abandon()
            self.close_sync()
            for name, value in kept.items():
                setattr(self, name, value)

    @property
    def database(self) -> "Database":
        """The ledger's database: `DATABASE_URL`, or the local server, which is started when it does not run."""
        with self._resolving:
            return self._resolved()

    def _resolved(self) -> "Database":
        from holdfast.postgres.database import resolve_database

        if self._database is None:
            url = self.settings.database_url
            self._database = resolve_database(
                None if url is None else url.get_secret_value(),
                data_dir=self.settings.data_dir,
                https=self.settings.https_ledger,
            )
        return self._database

    async def _open(self) -> "Client":
        """Each event loop has a client of its own, so that programs with several do not take it from each other."""
        from holdfast.services.client import Client

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            database = await asyncio.to_thread(lambda: self.database)
            if loop not in self._clients:  # else somebody else was quicker
                self._abandon_ended_loops()
                self._clients[loop] = Client(database.dsn, self.settings.bell_routes())
        return self._clients[loop]

    def _abandon_ended_loops(self) -> None:
        """What was opened in an event loop that does not run any more can be closed by nobody else."""
        for loop in [each for each in list(self._clients) if not each.is_running()]:
            if (client := self._clients.pop(loop, None)) is not None:
                client.abandon()
        for loop in [each for each in list(self._limiters) if not each.is_running()]:
            self._limiters.pop(loop, None)

    def _open_sync(self) -> "SyncLedger":
        from holdfast.postgres.ledger import SyncLedger

        with self._resolving:
            if self._sync is None:
                self._sync = SyncLedger(self._resolved().dsn, name="holdfast enqueue")
            return self._sync

    def _open_background(self) -> "tuple[Background, Client]":
        from holdfast.services.client import Background, Client

        with self._resolving:
            if self._background is None:
                dsn = self._resolved().dsn
                background = Background()

                async def connect() -> Client:
                    return Client(dsn)

                self._background = (background, background.run(connect()))
            return self._background

    def _forget(self) -> None:
        """Have no connection, without closing any."""
        self._clients, self._limiters = {}, {}
        self._sync = self._background = self._sync_limiter = None

    def _leave_to_parent(self) -> None:
        """In a child of a fork: connections, threads and the local server are the parent's; make our own."""
        self._resolving = threading.Lock()  # a thread of the parent's may have held it
        if self._database is not None and self._database.server is not None:
            self._database = None
        self._forget()

    async def close(self) -> None:
        """Write and ring what is under way, and close all connections. The object can be used again.

        A program with several event loops at a time closes in each, since none may close what another uses.

        >>> await hf.close()
        """
        loop = asyncio.get_running_loop()
        limiter, client = self._limiters.pop(loop, None), self._clients.pop(loop, None)
        if limiter is not None:
            await limiter.stop()
        if client is not None:
            await client.close()
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """`close` for programs without an event loop. Also lets go of the local server, if this program used one.

        >>> hf.close_sync()
        """
        self._abandon_ended_loops()
        background, self._background = self._background, None
        if background is not None:
            background[0].run(background[1].close())
            background[0].close()
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


def _begin_anew(program: "weakref.ref[Holdfast]") -> None:
    found = program()
    if found is not None:
        found._leave_to_parent()


def _which_kinds(kinds: Mapping[str, Kind]) -> str:
    return f"it has {', '.join(sorted(kinds))}" if kinds else "it has none"


def _only(id: UUID | str, rows: "list[JobRow]") -> "JobRow":
    if not rows:
        raise JobNotFound(f"no job has the id {id}; it may have been removed after its retention")
    return rows[0]


async def _outcome(client: "Client", id: UUID, timeout: float | None) -> "JobOutcome":
    try:
        async with asyncio.timeout(timeout):
            return await client.waiter.wait(id)
    except TimeoutError:
        raise ResultTimeout(f"job {id} had not ended after {timeout:g} s; it goes on") from None
