"""The supervisor: keeps worker processes alive, and sees them die.

A death that was seen needs no time-out. The process group is killed before the process is reaped (so that no child of
a handler outlives it, and no other process can have been given the id), then the worker is declared gone, then its
jobs are taken back: that is why they can be claimed again within a second. Then a new process is started, under a new
id; where the ledger keeps us waiting it is started all the same, and the old one is declared gone meanwhile.

Each child holds one end of a socket pair. A child whose supervisor dies reads its end and drains; a supervisor whose
child says nothing for as long as its leases may be trusted kills it. What children count comes over it as well.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from holdfast.core.counts import Counts
from holdfast.core.frames import FrameReader
from holdfast.core.liveness import ProcessState
from holdfast.errors import DatabaseError
from holdfast.events import ChildDied, ChildNotStarted, ChildStarted, LedgerLost, Sinks, WorkerMarkedGone
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import suspects_waiting
from holdfast.services.sweeper import Sweeper, rescue_all
from holdfast.services.watchdog import FENCED_EXIT_CODE
from holdfast.services.worker import EXIT_GONE, EXIT_LEFTOVERS, EXIT_STOPPED

#: After the drain: how long a child may take for its last words.
GRACE = 8.0
QUARANTINE_EVERY = 1.0
#: How long a new process waits for the old one to be declared gone: somebody may hold its row locked.
PATIENCE = 2.0
MOST_BACK_OFF = 30.0
#: A child's last byte but one; the last is its exit code. Without them a handler has ended the process.
LAST_WORD = 0xFF
#: A child's byte for a turn of its main loop; any byte tells that its interpreter runs.
PROGRESS = b"p"
#: Bytes that are read from a child at a time.
MOST_HEARD = 65_536


@dataclass(frozen=True)
class ChildSpec:
    """A process to keep alive. `command` gets the worker's id and the descriptor of its end of the pair.

    `is_worker` children have a row in the ledger; others are only started again. One that `tells_progress` says so at
    each turn of its main loop.
    """

    name: str
    command: Callable[[UUID, int], tuple[Sequence[str], Mapping[str, str]]]
    is_worker: bool = True
    on_demand: bool = False
    tells_progress: bool = True


@dataclass
class _Child:
    spec: ChildSpec
    worker_id: UUID
    process: subprocess.Popen[bytes]
    link: socket.socket
    started_at: float
    heard_at: float
    progressed_at: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    killed_for: str | None = None
    said: int | None = None
    half_word: bytes = b""
    frames: FrameReader = field(default_factory=FrameReader)
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True)
class SupervisorSettings:
    """Times in seconds. `silence`: a worker that says nothing for this long is killed."""

    drain_timeout: float = 30.0
    silence: float = 22.0
    stale_after: float = 600.0
    sweep_interval: float = 5.0
    queues: Sequence[str] = ("default",)
    kinds: Sequence[str] = ()
    sweep: bool = True


class Supervisor:
    """Runs the given children until `stop`; `run` returns when all have ended."""

    def __init__(
        self,
        dsn: str,
        specs: Sequence[ChildSpec],
        settings: SupervisorSettings,
        *,
        supervisor_id: UUID,
        new_id: Callable[[], UUID],
        sinks: Sinks,
    ) -> None:
        self.id = supervisor_id
        self._ledger = AsyncLedger(dsn, name=f"holdfast supervisor {supervisor_id}")
        self._specs = specs
        self._settings = settings
        self._new_id = new_id
        self._sinks = sinks
        self._stopping = asyncio.Event()
        self._children: dict[int, _Child] = {}
        self._declaring: set[asyncio.Task[None]] = set()
        self._kill_now = False
        self._counts = Counts()

    def stop(self) -> None:
        """Drain all children and end; the second call kills them."""
        if self._stopping.is_set():
            self._kill_now = True
            for child in list(self._children.values()):
                self._kill_group(child, "second stop")
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def workers(self) -> dict[UUID, int]:
        """Ids and pids of the worker processes that run now."""
        return {child.worker_id: child.process.pid for child in self._children.values() if child.spec.is_worker}

    def processes(self) -> list[ProcessState]:
        """The processes that run now, and when each was heard and made progress."""
        now = time.monotonic()
        return [
            ProcessState(
                child.spec.name,
                child.process.pid,
                now - child.started_at,
                now - child.heard_at,
                now - child.progressed_at if child.spec.tells_progress else None,
                child.progressed_at > child.started_at or not child.spec.tells_progress,
                child.spec.on_demand,
            )
            for child in list(self._children.values())
        ]

    def counts(self) -> Counts:
        """What all processes counted, those that have ended too."""
        found = Counts()
        found.merge(self._counts)
        for child in list(self._children.values()):
            found.merge(child.counts)
        return found

    async def run(self) -> None:
        """Keep every child running until `stop`, then let them drain."""
        keepers = [
            asyncio.create_task(self._keep_quarantine(spec) if spec.on_demand else self._keep(spec))
            for spec in self._specs
        ]
        watch = asyncio.create_task(self._watch_silence())
        # Also from here: the loops of all workers may be stuck in handlers.
        sweeper = Sweeper(
            self._ledger, self._sinks, interval=self._settings.sweep_interval, stale_after=self._settings.stale_after
        )
        sweeping = asyncio.create_task(sweeper.run() if self._settings.sweep else asyncio.sleep(0))
        try:
            await asyncio.gather(*keepers)
            await asyncio.gather(*self._declaring)
        finally:
            watch.cancel()
            sweeping.cancel()
            await asyncio.gather(watch, sweeping, return_exceptions=True)
            for declaring in self._declaring:
                declaring.cancel()
            for child in list(self._children.values()):
                self._kill_group(child, "supervisor ends")
            await self._ledger.close()

    async def _keep(self, spec: ChildSpec) -> None:
        """Start, wait, clean up, start again; with back-off where it dies young."""
        pause = 0.0
        while not self._stopping.is_set():
            lived = await self._live_once(spec)
            pause = 0.0 if lived > MOST_BACK_OFF else min(max(pause * 2, 0.05), MOST_BACK_OFF)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _keep_quarantine(self, spec: ChildSpec) -> None:
        """A process for suspects exists only while there are some: it ends by itself when it finds none."""
        while not self._stopping.is_set():
            try:
                if await self._ledger.one(suspects_waiting(self._settings.queues, self._settings.kinds)):
                    await self._live_once(spec)
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("suspects_waiting", str(error)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), QUARANTINE_EVERY)

    async def _live_once(self, spec: ChildSpec) -> float:
        try:
            child = self._start(spec)
        except (OSError, RuntimeError) as error:
            # The machine has no process, descriptor or thread left. The other children go on.
            self._sinks.emit(ChildNotStarted(spec.name, str(error)))
            return 0.0
        stopper = asyncio.create_task(self._stop_in_time(child))
        try:
            await child.ended.wait()
        finally:
            stopper.cancel()
        ended_at = time.monotonic()
        lived = ended_at - child.started_at
        while self._hear(child):
            pass
        self._counts.merge(child.counts)
        code = self._bury(child)
        self._sinks.emit(ChildDied(spec.name, child.process.pid, code, child.killed_for))
        if spec.is_worker:
            declaring = asyncio.create_task(self._declare_gone(child, code))
            self._declaring.add(declaring)
            declaring.add_done_callback(self._declaring.discard)
            await asyncio.wait({declaring}, timeout=PATIENCE)
        return lived

    def _start(self, spec: ChildSpec) -> _Child:
        worker_id = self._new_id()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _launch(spec, worker_id, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        now = time.monotonic()
        child = _Child(spec, worker_id, process, ours, now, now, now)
        self._children[process.pid] = child
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(ours, self._hear, child)
            threading.Thread(target=_wait_without_reaping, args=(process, loop, child.ended), daemon=True).start()
        except BaseException:
            self._bury(child)
            raise
        self._sinks.emit(ChildStarted(spec.name, process.pid, worker_id if spec.is_worker else None))
        return child

    def _hear(self, child: _Child) -> bool:
        """Read what a child has said; whether there was anything."""
        try:
            heard = child.link.recv(MOST_HEARD)
        except BlockingIOError:
            return False
        except OSError:
            heard = b""
        if not heard:
            asyncio.get_running_loop().remove_reader(child.link)
            return False
        child.heard_at = time.monotonic()
        if PROGRESS in heard:
            child.progressed_at = child.heard_at
        self._hear_last_word(child, heard)
        for text in child.frames.feed(heard):
            with contextlib.suppress(ValueError):
                child.counts = Counts.read(text)
        return True

    def _hear_last_word(self, child: _Child, heard: bytes) -> None:
        """Its code may come in the next piece."""
        heard = child.half_word + heard
        child.half_word = heard[-1:] if heard[-1] == LAST_WORD else b""
        place = heard.find(LAST_WORD)
        if 0 <= place < len(heard) - 1:
            child.said = heard[place + 1]

    async def _watch_silence(self) -> None:
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            if now - looked_at > self._settings.silence / 4:
                # It was we who slept: what the children said meanwhile has not been read yet.
                for child in self._children.values():
                    child.heard_at = child.progressed_at = now
            looked_at = now
            for child in list(self._children.values()):
                if child.spec.is_worker and child.killed_for is None and now - child.heard_at > self._settings.silence:
                    self._kill_group(child, "silence")

    async def _stop_in_time(self, child: _Child) -> None:
        await self._stopping.wait()
        if self._kill_now:
            self._kill_group(child, "second stop")
            return
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(self._settings.drain_timeout + GRACE)
        self._kill_group(child, "drain timeout")

    def _kill_group(self, child: _Child, why: str) -> None:
        if not child.ended.is_set():
            child.killed_for = child.killed_for or why
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)

    def _bury(self, child: _Child) -> int:
        """Kill what is left of the group while the dead process still holds its id, then reap it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        code = child.process.wait()
        with contextlib.suppress(ValueError, OSError):
            asyncio.get_running_loop().remove_reader(child.link)
        child.link.close()
        del self._children[child.process.pid]
        return code

    async def _declare_gone(self, child: _Child, code: int) -> None:
        """Mark the worker gone and take its jobs back, however long Postgres is away; a stop gives up after GRACE."""
        reason = _gone_reason(code, child.said, child.killed_for)
        if code == EXIT_STOPPED and child.killed_for is None and not self._stopping.is_set():
            # Nobody asked it to stop. Where it had a reason of its own, it is on record as stopped already.
            reason = "crashed"
        give_up = None
        pause = 0.1
        while True:
            try:
                for verdict in await self._ledger.call(calls.mark_seen_deaths([child.worker_id], reason)):
                    if verdict.verdict == "gone":
                        self._sinks.emit(
                            WorkerMarkedGone(verdict.worker_id, reason, verdict.seen_at, bool(verdict.is_crash))
                        )
                await rescue_all(self._ledger, self._sinks, stale_after=self._settings.stale_after)
                return
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("mark_workers_gone", str(error)))
            if self._stopping.is_set():
                give_up = give_up or time.monotonic() + GRACE
                if time.monotonic() > give_up:
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)


def _launch(spec: ChildSpec, worker_id: UUID, link: int) -> subprocess.Popen[bytes]:
    command, environment = spec.command(worker_id, link)
    return subprocess.Popen(
        [sys.executable, *command],
        pass_fds=(link,),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _gone_reason(code: int, said: int | None, killed_for: str | None) -> str:
    """What the end of a worker's process means for its jobs.

    A process that fell silent, or whose deadline in C ended it, was held by a handler: that is a crash of that
    handler's making (promise P5). Only a process that says so itself was fenced: it could not reach the ledger.
    """
    if killed_for is not None:
        return "stopped" if killed_for in ("drain timeout", "second stop", "supervisor ends") else "crashed"
    if said != code:
        return "crashed"
    if code in (EXIT_STOPPED, EXIT_LEFTOVERS):
        return "stopped"
    return "fenced" if code in (FENCED_EXIT_CODE, EXIT_GONE) else "crashed"


def _wait_without_reaping(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, ended: asyncio.Event
) -> None:
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(ended.set)
