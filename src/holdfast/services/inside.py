"""A worker inside another program's process, in its event loop: for deployments that are too small for two.

It keeps the same rules of leases as any worker, and ends the process where a supervised one would end itself: when a
handler still runs that must not. What only a supervisor can give is missing, see `Holdfast.worker`.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from uuid import UUID

from holdfast.errors import DatabaseError, WorkerGone
from holdfast.events import LedgerLost, Sinks
from holdfast.services.worker import EXIT_LEFTOVERS, Worker

LONGEST_PAUSE = 5.0
_log = logging.getLogger("holdfast")


class InsideWorker:
    """Keeps one worker running until `stop`; each that has ended is followed by one with a new id."""

    def __init__(
        self,
        make: Callable[[UUID], Worker],
        new_id: Callable[[], UUID],
        sinks: Sinks,
        *,
        exit_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._make = make
        self._new_id = new_id
        self._sinks = sinks
        self._exit_process = exit_process
        self._worker: Worker | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let what runs finish, up to the drain timeout, then end."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.drain()

    async def run(self) -> None:
        """Work until stopped."""
        pause = 0.1
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            self._worker = self._make(self._new_id())
            try:
                if await self._worker.run() == EXIT_LEFTOVERS:
                    # A thread ignores its cancellation. Its lease is given up by the end of this process, not before.
                    self._exit_process(EXIT_LEFTOVERS)
            except (DatabaseError, WorkerGone) as error:
                self._sinks.emit(LedgerLost("register_worker", str(error)))
            except Exception:
                # An error of ours: its handlers may still run, so their leases end with this process as well.
                _log.exception("the worker inside this process failed")
                self._exit_process(1)
            lived = asyncio.get_running_loop().time() - began
            pause = 0.1 if lived > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        waiting = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()
