"""The beat: a thread with its own connection tells the ledger that this worker lives, and learns what it lost.

A thread, because a busy event loop must not look like a dead worker; what the loop itself is doing is told with
it, as its lag.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from holdfast.errors import DatabaseError, WorkerGone
from holdfast.events import LedgerLost, Sinks
from holdfast.postgres import calls
from holdfast.postgres.ledger import SyncLedger
from holdfast.services.pulse import Pulse, steady_now

Held = Sequence[tuple[UUID, int]]


class Beat:
    """Beats every `interval` seconds until stopped.

    `held` is asked, from the beat's thread, for the leases that this worker knows it holds; `verdicts` and `gone` are
    called from it and must hand over to wherever they belong.
    """

    def __init__(
        self,
        ledger: SyncLedger,
        worker_id: UUID,
        pulse: Pulse,
        *,
        interval: float,
        unknown_after: float,
        status: Callable[[], dict[str, Any]],
        held: Callable[[], Held],
        verdicts: Callable[[list[calls.LeaseVerdict]], None],
        gone: Callable[[], None],
        accepted: Callable[[], None],
        sinks: Sinks,
    ) -> None:
        self._ledger = ledger
        self._worker_id = worker_id
        self._pulse = pulse
        self._interval = interval
        self._unknown_after = unknown_after
        self._status = status
        self._held = held
        self._verdicts = verdicts
        self._gone = gone
        self._accepted = accepted
        self._sinks = sinks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="holdfast-beat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the loop and close its connection; waits for a beat under way, which has a deadline."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._ledger.close()

    def step(self) -> bool:
        """One beat. False when the worker is gone, which is final."""
        sent_at = steady_now()
        if not self._ledger.one(calls.beat(self._worker_id, self._status())):
            self._gone()
            return False
        self._pulse.beat_accepted(sent_at)
        self._accepted()
        found = self._ledger.call(calls.check_leases(self._worker_id, self._held(), self._unknown_after))
        if found:
            self._verdicts(found)
        return True

    def _loop(self) -> None:
        while not self._stop.is_set():
            pause = self._interval
            try:
                if not self.step():
                    return
            except WorkerGone:
                self._gone()
                return
            except Exception as error:
                # Also what nobody foresaw: without this thread the worker would idle for ever, unnoticed.
                self._sinks.emit(LedgerLost("beat", str(error) if isinstance(error, DatabaseError) else repr(error)))
                pause = self._interval / 5
            self._stop.wait(pause)
