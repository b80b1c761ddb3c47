"""One run of the demo: submits, supervises, breaks things, waits, collects."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from rich.console import Console
from rich.live import Live

from holdfast.app import new_id
from holdfast.cli.demo_kinds import digest, hf
from holdfast.cli.demo_report import FEWEST_IN_FLIGHT, Fault, Report, check_jobs, check_rescues, measure
from holdfast.cli.demo_view import View
from holdfast.cli.local_sqs import LocalSqsPlan
from holdfast.cli.specs import worker_specs
from holdfast.config import Settings
from holdfast.errors import DatabaseUnavailable
from holdfast.events import Sinks
from holdfast.postgres import reads
from holdfast.postgres.calls import Call
from holdfast.postgres.database import Database
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.bell_lines import BellLines
from holdfast.services.ringer import Ringer
from holdfast.services.supervisor import Supervisor, SupervisorSettings

Row = TypeVar("Row")

APP = "holdfast.cli.demo_kinds:hf"
PATIENCE = 90.0
#: In how many portions jobs are submitted over SQS.
PORTIONS = 20


class Stopped(Exception):
    """Ctrl-C."""


@dataclass(frozen=True)
class SqsPlan:
    """Bells over a local SQS server: killed for `stop` seconds in the middle; `chaos` loses and doubles bells."""

    server: LocalSqsPlan
    stop: float
    chaos: bool


class Demo:
    """`faults` are (share of the jobs done, what to do then), in that order."""

    def __init__(
        self,
        settings: Settings,
        files: Sequence[Path],
        *,
        hold: float,
        kills: int,
        freezes: int,
        restart: bool,
        sqs: SqsPlan | None = None,
        rng: random.Random,
        console: Console,
    ) -> None:
        self._queue = f"demo-{new_id()}"
        self._settings = settings.model_copy(update={"queues": (self._queue,), "log_level": "error"})
        self._files = files
        self._hold = hold
        self._kills = kills
        self._freezes = freezes
        self._restart = restart
        self._sqs = sqs
        self._rng = rng
        self._console = console
        self._report = Report(submitted=len(files))
        self._expected: dict[UUID, Path] = {}
        self._hit: set[UUID] = set()
        self._apart: list[subprocess.Popen[bytes]] = []
        self._frozen: list[int] = []
        self._view = View(len(files))

    async def run(self) -> Report:
        async with self._bells():
            return await self._run()

    async def _run(self) -> Report:
        started = time.monotonic()
        hf.use(self._settings)
        self._database: Database = await asyncio.to_thread(lambda: hf.database)
        self._ledger = AsyncLedger(self._database.dsn, name="holdfast demo")
        self._console.print(f"Ledger: {self._database.describe()}")
        try:
            await self._work()
            await self._collect()
        except Stopped:
            self._report.problems.append("stopped before all jobs had ended")
        finally:
            await self._ledger.close()
            await hf.close()
        self._report.seconds = round(time.monotonic() - started, 1)
        return self._report

    async def _work(self) -> None:
        supervisor = self._supervisor()
        supervising = asyncio.create_task(supervisor.run())
        self._start_apart()
        try:
            with self._stopped_by_signals(supervisor):
                submitting = asyncio.create_task(self._submit())
                breaking = asyncio.create_task(self._break_things(supervisor))
                ringing = asyncio.create_task(self._ring())
                outage = asyncio.create_task(self._stop_sqs())
                try:
                    await self._watch(supervising, submitting, breaking, outage)
                finally:
                    for task in (submitting, breaking, ringing, outage):
                        task.cancel()
                    await asyncio.gather(submitting, breaking, ringing, outage, return_exceptions=True)
                    supervisor.stop()
                    await supervising
        finally:
            self._end_apart()

    # Processes -----------------------------------------------------------

    def _supervisor(self) -> Supervisor:
        supervisor_id = new_id()
        return Supervisor(
            self._database.dsn,
            worker_specs(
                self._settings.model_copy(update={"processes": self._settings.processes - self._freezes}),
                APP,
                self._database.dsn,
                supervisor_id,
            ),
            SupervisorSettings(drain_timeout=5.0, queues=(self._queue,), kinds=tuple(hf.kinds)),
            supervisor_id=supervisor_id,
            new_id=new_id,
            sinks=Sinks(),
        )

    def _start_apart(self) -> None:
        """Workers with a supervisor of their own: what is frozen is both, so that nobody sees the worker stop."""
        environment = {**os.environ, "HOLDFAST_DATABASE_URL": self._database.dsn, "HOLDFAST_LOG_LEVEL": "error"}
        if self._sqs is not None:
            environment["HOLDFAST_SQS_QUEUE_URL"] = str(self._settings.sqs_queue_url)
        command = ["-m", "holdfast", "worker", APP, "--queues", self._queue, "--slots", f"{self._settings.slots}"]
        for _ in range(self._freezes):
            self._apart.append(
                subprocess.Popen(
                    [sys.executable, *command, "--processes", "1", "--drain-timeout", "5"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )

    def _end_apart(self) -> None:
        self._thaw()
        for process in self._apart:
            process.terminate()
        for process in self._apart:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def _stopped_by_signals(self, supervisor: Supervisor) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    # Jobs ----------------------------------------------------------------

    async def _submit(self) -> None:
        kind = digest.options(queue=self._queue)
        prepared = [kind.prepare(str(path), self._hold) for path in self._files]
        self._expected = {job.id: path for job, path in zip(prepared, self._files, strict=True)}
        # Over SQS in portions, twice as fast as they are run: some are written, and rung for, while it is away.
        portions = 1 if self._sqs is None else PORTIONS
        pause = len(prepared) * self._hold / (self._settings.processes * self._settings.slots) / 2 / portions
        size = -(-len(prepared) // portions)
        for start in range(0, len(prepared), size):
            await hf.enqueue_many(prepared[start : start + size])
            if portions > 1:
                await asyncio.sleep(pause)

    async def _watch(
        self,
        supervising: "asyncio.Task[None]",
        submitting: "asyncio.Task[None]",
        breaking: "asyncio.Task[None]",
        outage: "asyncio.Task[None]",
    ) -> None:
        printed = looked = 0.0
        workers: list[tuple[reads.LiveWorker, int]] = []
        with Live(console=self._console, refresh_per_second=4) as live:
            while True:
                # Before the counts are read: what was written since then is not in them.
                all_came = submitting.done() and outage.done()
                counts = await self._counts()
                if time.monotonic() - looked > 1:
                    looked = time.monotonic()
                    workers = await self._look()
                live.update(self._view.render(counts, workers, self._report.faults, self._frozen))
                if not self._console.is_terminal:
                    for line in self._view.news(self._report.faults):
                        self._console.print(line)
                    if time.monotonic() - printed > 5:
                        printed = time.monotonic()
                        self._console.print(self._view.states(counts))
                if all_came and counts.get("queued", 0) + counts.get("running", 0) == 0:
                    break
                if supervising.done():
                    raise Stopped
                await asyncio.sleep(0.25)
            for task in (submitting, breaking, outage):
                if task.done():
                    task.result()

    async def _look(self) -> list[tuple[reads.LiveWorker, int]]:
        """What became of each fault so far; the workers, and how many jobs each of them runs."""
        measure(self._report.faults, await self._ask(reads.queue_rescues(self._queue)))
        busy = dict(await self._ask(reads.count_running(self._queue)))
        live = await self._ask(reads.live_workers(self._queue))
        return [(worker, busy.get(worker.id, 0)) for worker in sorted(live, key=lambda worker: worker.id)]

    async def _counts(self) -> dict[str, int]:
        return dict(await self._ask(reads.count_jobs(self._queue)))

    async def _ask(self, call: Call[Row]) -> list[Row]:
        """The ledger's answer, however long that takes; the demo itself takes the database away for a while."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await self._ledger.call(call)
            except DatabaseUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def _clock(self) -> datetime:
        (pong,) = await self._ask(reads.ping())
        return pong.clock

    # SQS -----------------------------------------------------------------

    @asynccontextmanager
    async def _bells(self) -> AsyncIterator[None]:
        """The local SQS server, and what stands in front of it, while the demo runs."""
        if self._sqs is None:
            yield
            return
        from holdfast.cli.demo_sqs import MessageProxy, SqsServer

        self._server = SqsServer(self._sqs.server)
        proxy = MessageProxy(self._sqs.server, self._rng, chaos=self._sqs.chaos)
        try:
            await self._server.start()
            async with proxy.serving() as url:
                self._settings = self._settings.model_copy(update={"sqs_queue_url": url})
                yield
        finally:
            self._server.stop()
            self._report.bells = asdict(proxy.bells)
        if not proxy.bells.passed:
            self._report.problems.append("no bell went over SQS")

    async def _ring(self) -> None:
        if self._settings.sqs_queue_url is None or self._sqs is None:
            return
        ledger = AsyncLedger(self._database.dsn, name="holdfast ringer")
        lines = BellLines(ledger, self._settings.bell_routes())
        try:
            await Ringer(ledger, lines, Sinks()).run()
        finally:
            await lines.close()
            await ledger.close()

    async def _stop_sqs(self) -> None:
        if self._sqs is None or not self._sqs.stop:
            return
        await self._when_done(0.05)
        before, at = (await self._counts()).get("succeeded", 0), await self._clock()
        fault = Fault("stop of SQS", at)
        self._note(fault, f"SQS is killed, and its queues with it; started again in {self._sqs.stop:g} s")
        await asyncio.to_thread(self._server.stop)
        await asyncio.sleep(self._sqs.stop)
        fault.done_meanwhile = (await self._counts()).get("succeeded", 0) - before
        await self._server.start()
        fault.back_after = ((await self._clock()) - at).total_seconds()
        self._console.print(f"SQS answers again; {fault.done_meanwhile:,} jobs succeeded without it")
        if not fault.done_meanwhile:
            self._report.problems.append("no job succeeded while SQS was stopped")

    # Faults --------------------------------------------------------------

    async def _break_things(self, supervisor: Supervisor) -> None:
        """Each at its share of the jobs done: freezes first, then kills, and the restart of Postgres last."""
        plan: list[Callable[[], Awaitable[None]]] = [self._freeze_one] * self._freezes
        plan += [lambda: self._kill_one(supervisor)] * self._kills
        plan += [self._restart_postgres] * self._restart
        for number, fault in enumerate(plan):
            await self._when_done(0.08 + 0.65 * number / max(len(plan), 1))
            await fault()

    async def _when_done(self, share: float) -> None:
        """Wait until this share of the jobs has succeeded."""
        while (await self._counts()).get("succeeded", 0) < share * len(self._files):
            await asyncio.sleep(0.1)

    async def _kill_one(self, supervisor: Supervisor) -> None:
        victim = await self._find_victim(supervisor.workers)
        if victim is None:
            self._report.problems.append("no worker process had enough jobs in flight to be killed")
            return
        worker_id, pid = victim
        at = await self._clock()
        os.kill(pid, signal.SIGKILL)
        self._note(Fault("kill", at, str(worker_id), pid), f"SIGKILL to worker process {pid}")

    async def _freeze_one(self) -> None:
        apart = {process.pid for process in self._apart}
        workers = {row.id: row for row in await self._ask(reads.live_workers(self._queue)) if row.parent_pid in apart}
        victim = await self._find_victim(lambda: {id: row.pid for id, row in workers.items()})
        if victim is None:
            self._report.problems.append("no worker process had enough jobs in flight to be frozen")
            return
        worker_id, pid = victim
        at = await self._clock()
        self._frozen = [workers[worker_id].parent_pid, pid]
        for each in self._frozen:
            os.kill(each, signal.SIGSTOP)
        self._note(Fault("freeze", at, str(worker_id), pid), f"SIGSTOP to worker process {pid} and its supervisor")
        self._thawing = asyncio.create_task(self._thaw_when_gone(worker_id))

    async def _thaw_when_gone(self, worker_id: UUID) -> None:
        """It goes on as a zombie, once its jobs are others'."""
        while dict(await self._ask(reads.count_running(self._queue))).get(worker_id):
            await asyncio.sleep(0.5)
        await asyncio.sleep(2)
        self._thaw()
        self._console.print("SIGCONT: the frozen worker goes on, as a zombie")

    def _thaw(self) -> None:
        for each in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)
        self._frozen = []

    async def _restart_postgres(self) -> None:
        server = self._database.server
        if server is None:
            return
        at = await self._clock()
        fault = Fault("restart of Postgres", at)
        self._note(fault, "Postgres is killed, with all its processes, and started again")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        while fault.back_after is None:
            (back,) = await self._ask(reads.first_success_after(self._queue, at))
            if back is not None:
                fault.back_after = (back - at).total_seconds()
            await asyncio.sleep(0.2)

    async def _find_victim(self, workers: Callable[[], dict[UUID, int]]) -> tuple[UUID, int] | None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            # Jobs that were claimed together end together: hit a process while they are young.
            busy = dict(await self._ask(reads.count_running(self._queue, within=self._hold / 2)))
            candidates = [
                (worker_id, pid)
                for worker_id, pid in sorted(workers().items())
                if worker_id not in self._hit and busy.get(worker_id, 0) > FEWEST_IN_FLIGHT
            ]
            if candidates:
                victim = self._rng.choice(candidates)
                self._hit.add(victim[0])
                return victim
            await asyncio.sleep(self._hold / 10)
        return None

    def _note(self, fault: Fault, text: str) -> None:
        self._report.faults.append(fault)
        self._console.print(text)

    # Counting ------------------------------------------------------------

    async def _collect(self) -> None:
        found: dict[UUID, reads.JobOutcome] = {}
        ids = list(self._expected)
        for start in range(0, len(ids), 1000):
            for outcome in await self._ask(reads.job_outcomes(ids[start : start + 1000])):
                if outcome.status != "missing":
                    found[outcome.id] = outcome
        check_jobs(self._report, self._expected, found)
        check_rescues(self._report, await self._ask(reads.queue_rescues(self._queue)))
        wanted = self._kills + self._freezes + self._restart + bool(self._sqs and self._sqs.stop)
        if len(self._report.faults) < wanted:
            self._report.problems.append(f"only {len(self._report.faults)} of {wanted} faults came about")
