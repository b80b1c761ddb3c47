"""The worker: one process that claims jobs, runs their handlers, and settles them.

It owns the runs; everything about its life is somebody else's duty: the beat tells that it lives, the watchdog stops
it in time, the sweeper rescues others' jobs, the settler and the reporter talk to the ledger about its runs.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ParamSpec
from uuid import UUID

from holdfast.core.bell import BellRoutes
from holdfast.core.kind import CANARY, Kind
from holdfast.core.lease import LeaseTimings, Trust
from holdfast.core.pacing import most_to_ask, plan_claim
from holdfast.errors import ConfigurationError, DatabaseError, WorkerGone
from holdfast.events import (
    JobFailed,
    JobsClaimed,
    LeaseWasLost,
    LedgerLost,
    Sinks,
    TrustChanged,
    WorkerCondemned,
    WorkerStarted,
    WorkerStopped,
)
from holdfast.postgres import calls
from holdfast.postgres.bell import Bell
from holdfast.postgres.ledger import AsyncLedger, SyncLedger
from holdfast.postgres.transactions import Transactions
from holdfast.services.ahead import Ahead
from holdfast.services.beat import Beat
from holdfast.services.canary import canary_kind
from holdfast.services.deadlines import Deadlines
from holdfast.services.ears import Ears
from holdfast.services.front import Front, place
from holdfast.services.isolation import Isolation
from holdfast.services.job_counts import JobCounts
from holdfast.services.periodic import Periodic
from holdfast.services.pruner import Pruner
from holdfast.services.pulse import Pulse
from holdfast.services.reporter import Reporter
from holdfast.services.run import Run, StopReason
from holdfast.services.scheduler import Scheduler
from holdfast.services.settler import Settler
from holdfast.services.sweeper import Sweeper
from holdfast.services.watchdog import Watchdog

if TYPE_CHECKING:  # its package is an extra
    from holdfast.instrument.otel import Telemetry

P = ParamSpec("P")

#: Seconds that a loop which was stuck has to come back and drain, before the watchdog ends the process.
LOOP_GRACE = 2.0

#: Seconds: the claim loop turns at least so often, whatever the poll, since its turns are how others see that it lives.
LONGEST_TURN = 15.0

#: Exit codes of a worker process, as its supervisor reads them.
EXIT_STOPPED = 0
EXIT_GONE = 76
EXIT_LEFTOVERS = 77


@dataclass(frozen=True)
class WorkerSettings:
    """Times in seconds."""

    queues: Sequence[str] = ("default",)
    slots: int = 10
    batch: int = 500
    poll: float = 1.0
    drain_timeout: float = 30.0
    stale_after: float = 600.0
    sweep_interval: float = 5.0
    unknown_after: float = 15.0
    condemn_after: float = 30.0
    keep_finished: float = 7 * 86400.0
    keep_dead: float = 90 * 86400.0
    keep_incidents: float = 90 * 86400.0
    bells: BellRoutes = field(default_factory=BellRoutes)
    timings: LeaseTimings = field(default_factory=LeaseTimings)
    sweep: bool = True
    quarantine: bool = False
    idle_exit: float | None = None

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ConfigurationError(f"slots is {self.slots}; a worker needs at least 1")
        if not self.queues:
            raise ConfigurationError("a worker needs at least one queue")
        if self.stale_after < 3 * self.timings.lost_after:
            raise ConfigurationError(
                f"stale_after is {self.stale_after:g} s and lost_after {self.timings.lost_after:g} s: "
                f"set stale_after to at least {3 * self.timings.lost_after:g} s"
            )


class Worker:
    """One worker in this process; `run` returns its exit code when it was stopped, is gone, or had nothing to do."""

    def __init__(
        self,
        dsn: str,
        kinds: Mapping[str, Kind],
        settings: WorkerSettings,
        *,
        worker_id: UUID,
        supervisor_id: UUID | None = None,
        app: str | None = None,
        periodics: Mapping[str, Periodic] | None = None,
        sinks: Sinks | None = None,
        rng: random.Random | None = None,
        progressed: Callable[[], None] = lambda: None,
        telemetry: "Telemetry | None" = None,
        exit_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._progressed = progressed
        self._telemetry = telemetry
        self._exit_process = exit_process
        self._dsn = dsn
        self._kinds = kinds  # may grow while this runs
        self._canary = canary_kind()
        self._periodics = periodics or {}
        self._settings = settings
        self._id = worker_id
        self._supervisor_id = supervisor_id
        self._app = app
        self._sinks = sinks or Sinks()
        self._rng = rng or random.Random()  # noqa: S311
        self._runs: dict[UUID, Run] = {}
        self._running = 0
        self._ahead = Ahead(0 if settings.quarantine else settings.slots)
        self._empty = asyncio.Event()
        self._empty.set()
        self._wake = asyncio.Event()
        self._draining = False
        self._gone = False
        self._leaving = False
        self._rung = True
        self._ledger_answers = True
        self._front = Front()
        self._front_timer: asyncio.TimerHandle | None = None
        self._loop_lag = 0.0
        self._loop_turns = 0
        self._drains_since = 0.0
        self._abandoned = 0
        self._asides: set[asyncio.Task[Any]] = set()

    def drain(self) -> None:
        """Stop claiming, let what runs finish up to `drain_timeout`, give back the rest, end. In the loop's thread."""
        self._draining = True
        self._wake.set()

    async def run(self) -> int:
        """Register, work until drained or gone, and return the exit code."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        self._ledger = AsyncLedger(self._dsn, name=f"holdfast worker {self._id}")
        self._ends = AsyncLedger(self._dsn, name=f"holdfast settler {self._id}")
        self._settler = Settler(self._ends, self._id, self._sinks, dice=self._rng.random)
        self._reporter = Reporter(self._ledger, self._id)
        self._counts = JobCounts(self._ledger, self._id, self._sinks)
        self._deadlines = Deadlines()
        self._transactions = Transactions(self._dsn, self._id, lost_after=settings.timings.lost_after)
        self._pulse = Pulse()
        self._isolation = None if self._app is None else Isolation(self._app, self._trusted_until)
        self._threads = ThreadPoolExecutor(settings.slots, thread_name_prefix="holdfast-job")
        self._watchdog = Watchdog(
            self._pulse,
            settings.timings,
            running=self._handlers_running,
            changed=self._from_thread(self._trust_changed),
            loop_turns=lambda: self._loop_turns,
            stuck_after=settings.condemn_after + LOOP_GRACE,
            exit_process=self._exit_process,
        )
        beat = Beat(
            SyncLedger(self._dsn, name=f"holdfast beat {self._id}", deadline=settings.timings.beat_interval),
            self._id,
            self._pulse,
            interval=settings.timings.beat_interval,
            unknown_after=settings.unknown_after,
            status=self._status,
            held=lambda: [(run.job.id, run.job.lease) for run in list(self._runs.values()) if not run.settling],
            verdicts=self._from_thread(self._judge),
            gone=self._from_thread(self._declared_gone),
            accepted=self._from_thread(self._beat_accepted),
            sinks=self._sinks,
        )
        await self._register()
        self._watchdog.start()
        beat.start()
        helpers = [
            loop.create_task(self._heartbeats()),
            loop.create_task(self._watch_itself()),
            loop.create_task(self._counts.run()),
            loop.create_task(Bell(self._dsn, settings.queues, self._ring).listen(f"holdfast bell {self._id}")),
        ]
        ears = Ears(
            self._ledger,
            BellRoutes() if settings.quarantine else settings.bells,
            settings.queues,
            self._sinks,
            rung=self._ring,
            has_room=lambda: self._ledger_answers and self._free_slots() > 0,
            heard=self._telemetry.heard if self._telemetry else None,
        )
        ears.start()
        if settings.sweep:
            sweeper = Sweeper(
                self._ledger, self._sinks, interval=settings.sweep_interval, stale_after=settings.stale_after
            )
            helpers.append(loop.create_task(sweeper.run()))
            pruner = Pruner(
                self._ledger,
                self._sinks,
                keep_finished=settings.keep_finished,
                keep_dead=settings.keep_dead,
                keep_incidents=settings.keep_incidents,
            )
            helpers.append(loop.create_task(pruner.run()))
            helpers.append(loop.create_task(Scheduler(self._ledger, self._sinks, self._periodics).run()))
        try:
            await self._claim_loop()
            ears.stop()
            leftovers = await self._drain()
            await self._counts.tell()
            return await self._end(leftovers)
        except BaseException:
            # This process is about to end, and its handlers may run until then: their leases are not given up before.
            self._leaving = True
            raise
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await ears.close()
            await asyncio.to_thread(beat.stop)
            self._watchdog.stop()
            self._deadlines.close()
            await self._transactions.close()
            await self._ends.close()
            await self._ledger.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _from_thread(self, callback: Callable[P, None]) -> Callable[P, None]:
        """The callback, to be called from any thread; it runs in the loop's. A loop that has ended needs no news."""
        loop = asyncio.get_running_loop()

        def hand_over(*args: P.args, **kwargs: P.kwargs) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: callback(*args, **kwargs))

        return hand_over

    # Claiming ------------------------------------------------------------

    async def _claim_loop(self) -> None:
        last_was_full = False
        claimed_at = float("-inf")
        idle_since = time.monotonic()
        pause = 0.2
        most = self._settings.batch
        while not self._draining and not self._gone:
            self._wake.clear()
            self._progressed()
            now = time.monotonic()
            if self._runs:
                idle_since = now
            elif self._settings.idle_exit is not None and now - idle_since > self._settings.idle_exit:
                return
            plan = plan_claim(
                free_slots=self._room(),
                batch=most,
                last_was_full=last_was_full,
                rung=self._rung,
                since_claim=now - claimed_at,
                poll=self._settings.poll,
            )
            if plan.ask == 0:
                wait = min(self._settings.poll if plan.wait is None else plan.wait, LONGEST_TURN)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait)
                continue
            self._rung = False
            claimed_at = now
            try:
                claimed = await self._claim(plan.ask)
            except WorkerGone:
                self._declared_gone()
                return
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("claim", str(error)))
                self._ledger_answers = False
                last_was_full, self._rung = False, True
                most = most_to_ask(plan.ask, batch=self._settings.batch, answered=False)
                await asyncio.sleep(pause * (0.5 + self._rng.random()))
                pause = min(pause * 2, 5.0)
                continue
            pause = 0.2
            self._ledger_answers = True
            most = most_to_ask(most, batch=self._settings.batch, answered=True)
            last_was_full = claimed >= plan.ask

    def _free_slots(self) -> int:
        """Slots without a running handler; but no more results wait for the ledger than there are slots."""
        if self._watchdog.trust is not Trust.HEALTHY:
            return 0
        slots = self._settings.slots
        return min(slots - self._running, 2 * slots - (len(self._runs) - len(self._ahead)))

    def _room(self) -> int:
        """How many jobs to claim: for free slots, and for those that will be free when the answer is here."""
        if self._watchdog.trust is not Trust.HEALTHY:
            return 0
        return self._free_slots() + self._ahead.most - len(self._ahead)

    async def _claim(self, ask: int) -> int:
        """Claim where the last claim ended, or at the front of the queue (front.py); how many jobs it brought.

        Each answer's jobs begin at once: a beat must not find a lease that came with the first answer unknown because
        the second is late.
        """
        floor = self._front.begin()
        jobs = await self._claim_and_begin(ask, floor)
        if len(jobs) < ask and floor is not None:
            if wait := self._front.wait():
                self._look_at_the_front_in(wait)
            else:
                # What the first call brought runs already, whatever becomes of the second.
                try:
                    jobs += await self._claim_and_begin(ask - len(jobs), None)
                except DatabaseError:
                    self._ring()  # the front was not seen: it is not left to the next poll
        self._front.go_on_behind(jobs, is_full=len(jobs) >= ask)
        return len(jobs)

    def _look_at_the_front_in(self, seconds: float) -> None:
        if self._front_timer is None:
            self._front_timer = asyncio.get_running_loop().call_later(seconds, self._look_at_the_front)

    def _look_at_the_front(self) -> None:
        self._front_timer = None
        self._ring()

    async def _claim_and_begin(self, ask: int, floor: calls.Floor | None) -> list[calls.Claimed]:
        call = calls.claim(self._id, self._settings.queues, self._kind_names(), ask, floor)
        asked_at = time.monotonic()
        jobs = sorted(await self._ledger.call(call), key=place)
        took = self._front.answered(floor, asked_at)
        self._ahead.answered(took)
        self._sinks.emit(JobsClaimed(tuple((job.queue, job.kind) for job in jobs), took))
        may_begin = self._watchdog.trust is Trust.HEALTHY and not self._gone
        for job in jobs:
            self._take(job, may_begin)
        self._begin_next()
        if self._running:
            self._watchdog.handler_begins()
        return jobs

    def _ring(self) -> None:
        self._rung = True
        self._wake.set()

    def _aside(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    # Running ------------------------------------------------------------

    def _kind_names(self) -> list[str]:
        return sorted((*self._kinds, CANARY))

    def _take(self, job: calls.Claimed, may_begin: bool) -> None:
        kind = self._canary if job.kind == CANARY else self._kinds[job.kind]
        earlier = self._runs.get(job.id)
        if earlier is not None:
            # Our own older run of this job has not ended yet: never two at once. Look again a little later.
            self._aside(self._settler.settle(calls.Settlement(job.id, job.lease, "snooze", delay=5.0)))
            return
        run = Run(
            job,
            kind,
            lambda text: self._reporter.report(job.id, job.lease, text),
            self._transactions,
            self._isolation,
            deadlines=self._deadlines,
            worker_id=self._id,
            lost_after=self._settings.timings.lost_after,
        )
        self._runs[job.id] = run
        self._empty.clear()
        if not may_begin:
            # A claim whose answer came when we may no longer start anything.
            run.stop_reason = StopReason.LOST if self._gone else StopReason.FENCED
            self._finish(run, calls.Settlement(job.id, job.lease, "release"))
        else:
            self._ahead.add(run)

    def _begin_next(self) -> None:
        """Begin what waits, while there are free slots."""
        if not self._ahead:
            return
        loop = asyncio.get_running_loop()
        for run in self._ahead.first(self._free_slots()):
            run.began_at = time.monotonic()
            self._running += 1
            run.task = loop.create_task(self._carry_out(run))

    def _give_back(self, runs: Sequence[Run]) -> None:
        """Release what did not begin."""
        for run in runs:
            self._finish(run, calls.Settlement(run.job.id, run.job.lease, "release"))

    async def _carry_out(self, run: Run) -> None:
        run.begun = True
        settlement: calls.Settlement | None
        if run.stop_reason is not None:
            # Asked to stop before the handler began.
            settlement = calls.Settlement(run.job.id, run.job.lease, "release")
        else:
            try:
                running = run.execute(self._threads, self._rng.random())
                settlement = await (self._telemetry.processing(run.job, running) if self._telemetry else running)
            except Exception as error:
                # An error of ours must not keep the slot, nor leave the job to a run that has ended.
                stored = json.dumps({"type": type(error).__name__, "message": f"while the run was ended: {error!r}"})
                settlement = calls.Settlement(
                    run.job.id, run.job.lease, "fail", error=stored, delay=60.0, fingerprint="internal"
                )
        self._running -= 1
        self._ahead.ended(time.monotonic() - run.began_at)
        self._finish(run, settlement)
        self._begin_next()

    def _finish(self, run: Run, settlement: calls.Settlement | None) -> None:
        """The handler has ended: tell the ledger how. Its slot is free from here on, its lease is ours until then."""
        run.finished = True
        run.ran = time.monotonic() - run.began_at
        self._wake.set()
        if settlement is None and run.context.is_settled:
            self._counts.ended(run.job, "succeeded", "complete", run.ran)
        if settlement is None or self._gone or self._leaving or run.stop_reason is StopReason.LOST:
            self._forget(run)
        elif run.context.is_unsure:
            self._aside(self._settle_if_held(run, settlement))
        else:
            self._settler.post(settlement, partial(self._settled, run, settlement))

    async def _settle_if_held(self, run: Run, settlement: calls.Settlement) -> None:
        try:
            settled = await self._settler.settle_if_held(settlement)
        except BaseException as error:
            self._settled(run, settlement, None, error)
            raise
        self._settled(run, settlement, settled, None)

    def _settled(
        self, run: Run, settlement: calls.Settlement, settled: calls.Settled | None, error: BaseException | None
    ) -> None:
        self._forget(run)
        if isinstance(error, WorkerGone):
            self._declared_gone()
        elif settled is None:
            return
        elif settled.verdict == "lost":
            self._sinks.emit(LeaseWasLost(run.job.id, run.job.kind, run.job.lease, "settle"))
        else:
            # A handler that settled its job in its own transaction has succeeded, whatever we would have written.
            outcome = "complete" if settled.status == "succeeded" else settlement.outcome
            self._counts.ended(run.job, settled.status or "", outcome, run.ran)
            if outcome == "fail" and settlement.error is not None:
                self._sinks.emit(
                    JobFailed(
                        run.job.id, run.job.kind, run.job.lease, settled.status or "",
                        _summary(settlement.error), settlement.fingerprint or "",
                    )
                )  # fmt: skip

    def _forget(self, run: Run) -> None:
        del self._runs[run.job.id]
        self._begin_next()
        self._wake.set()
        if not self._runs:
            self._empty.set()

    # What the ledger and the watchdog say ------------------------------------------------------------

    def _judge(self, found: Sequence[calls.LeaseVerdict]) -> None:
        unknown = []
        for verdict in found:
            run = self._runs.get(verdict.id)
            known = run is not None and run.job.lease == verdict.lease
            if verdict.verdict == "unknown" and not known:
                unknown.append((verdict.id, verdict.lease))
            elif run is not None and known and not run.settling:
                if verdict.verdict == "lost":
                    self._sinks.emit(LeaseWasLost(run.job.id, run.job.kind, run.job.lease, "beat"))
                    run.stop(StopReason.LOST)
                elif verdict.verdict == "cancel":
                    run.stop(StopReason.CANCEL)
        self._give_back(self._ahead.stopped())
        if unknown:
            self._aside(self._release_unknown(unknown))

    async def _release_unknown(self, claims: list[tuple[UUID, int]]) -> None:
        try:
            await self._ledger.call(calls.release_lost_claims(self._id, claims))
            self._ring()  # nobody else will: they were queued all along
        except DatabaseError as error:
            self._sinks.emit(LedgerLost("release_lost_claims", str(error)))

    def _declared_gone(self) -> None:
        """Final: every lease of ours is void. Stop the handlers; nothing of them will be stored."""
        self._gone = True
        self._stop_all(StopReason.LOST)
        self._wake.set()

    def _beat_accepted(self) -> None:
        for run in self._runs.values():
            run.beat_accepted()

    def _trusted_until(self) -> float:
        return self._pulse.accepted_at + self._settings.timings.exit_after

    def _trust_changed(self, trust: Trust, age: float) -> None:
        self._sinks.emit(TrustChanged(self._id, trust, age))
        if trust in (Trust.CANCEL, Trust.EXIT):
            self._stop_all(StopReason.FENCED)
        self._wake.set()

    def _stop_all(self, reason: StopReason) -> None:
        for run in list(self._runs.values()):
            if not run.finished:
                run.stop(reason)
        self._give_back(self._ahead.all())

    # Beginning and end ------------------------------------------------------------

    async def _register(self) -> None:
        settings = self._settings
        options: dict[str, Any] = {
            "supervisor_id": None if self._supervisor_id is None else str(self._supervisor_id),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "parent_pid": os.getppid(),
            "version": version("holdfast"),
            "queues": list(settings.queues),
            "kinds": self._kind_names(),
            "slots": settings.slots,
            "quarantine": settings.quarantine,
            "lost_after": settings.timings.lost_after,
        }
        if not await self._ledger.one(calls.register_worker(self._id, options)):
            raise WorkerGone(f"worker {self._id} was declared gone before it registered")
        self._sinks.emit(
            WorkerStarted(
                self._id, tuple(settings.queues), tuple(self._kind_names()), settings.slots, settings.quarantine
            )
        )

    async def _drain(self) -> int:
        """Let the runs finish; returns how many handlers still run in threads that ignore their cancellation."""
        self._drains_since = time.monotonic()
        if not self._gone:
            self._give_back(self._ahead.all())
            await self._wait_for_runs(self._settings.drain_timeout)
            self._abandoned = self._running
            self._stop_all(StopReason.DRAIN)
        await self._wait_for_runs(5.0)
        return self._handlers_running()

    async def _wait_for_runs(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)

    async def _end(self, leftovers: int) -> int:
        if self._gone:
            self._stopped("gone")
            return EXIT_GONE
        if leftovers or self._runs:
            # Their leases are not given up while they may still run: this process ends first.
            self._leaving = True
            self._stopped("leftovers")
            return EXIT_LEFTOVERS
        with contextlib.suppress(DatabaseError):
            await self._ledger.call(calls.mark_seen_deaths([self._id], "stopped"))
        self._stopped("drained")
        return EXIT_STOPPED

    def _stopped(self, reason: str) -> None:
        took = time.monotonic() - self._drains_since
        self._sinks.emit(WorkerStopped(self._id, reason, self._abandoned, round(took, 3)))

    def _handlers_running(self) -> int:
        """A result that waits for the ledger is no handler: an outage must not cost the process that keeps it."""
        return self._running

    def _status(self) -> dict[str, Any]:
        return {"loop_lag": round(self._loop_lag, 3), "running": len(self._runs), "draining": self._draining}

    async def _heartbeats(self) -> None:
        """A sign of life for the jobs that do not owe one themselves."""
        while True:
            await asyncio.sleep(self._settings.stale_after / 10)
            runs = [
                (run.job.id, run.job.lease)
                for run in self._runs.values()
                if not run.settling and run.job.silent_after is None
            ]
            if not runs:
                continue
            try:
                self._judge(await self._reporter.verdicts(runs))
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("heartbeats", str(error)))

    async def _watch_itself(self) -> None:
        """A process whose loop was stuck, or whose handler ignores its cancellation, is not trusted with new jobs."""
        limit = self._settings.condemn_after
        while True:
            before = time.monotonic()
            self._loop_turns += 1
            if self._draining:
                self._progressed()  # the claim loop has ended, as it should
            await asyncio.sleep(0.5)
            self._loop_lag = max(0.0, time.monotonic() - before - 0.5)
            self._give_back(self._ahead.overdue())
            stubborn = [run.job.id for run in self._runs.values() if run.ignores_its_stop(limit)]
            if not self._draining and (self._loop_lag > limit or stubborn):
                why = f"handler of job {stubborn[0]} ignores its cancellation" if stubborn else "event loop was blocked"
                self._sinks.emit(WorkerCondemned(self._id, why, round(self._loop_lag, 1)))
                self.drain()


def _summary(stored: str) -> str:
    error = json.loads(stored)
    return f"{error['type']}: {error['message']}"
