"""The watchdog: a thread that does no I/O and stops this process before anybody may take its jobs.

It compares the age of the last accepted beat with the steps of core/lease.py. A handler that holds the interpreter's
lock stops Python threads too, so while handlers run a deadline in C is armed behind it (faulthandler): it fires
without that lock, writes all stacks, and ends the process. It is armed before a handler begins: the very first thing
that a handler does may be to take that lock.
"""

import faulthandler
import os
import threading
from collections.abc import Callable

from holdfast.core.lease import LeaseTimings, Trust
from holdfast.services.pulse import Pulse

#: The exit code of a worker that ended itself because its beats were not accepted.
FENCED_EXIT_CODE = 75
#: The exit code of a worker whose event loop a handler held up: its beats were accepted, so nobody was fenced.
STUCK_EXIT_CODE = 78

#: The longest pause between two looks, in seconds; shorter where leases are, so that the process ends in time.
TICK = 0.25


class Watchdog:
    """Watches one worker. `changed` is called from the watchdog's thread; `running` counts handlers under way.

    `loop_turns` grows while the event loop turns. When it has stood still for `stuck_after` seconds while handlers run,
    nobody but this thread can end the process. That time is counted in looks, so that a freeze of it all is not in it.
    """

    def __init__(
        self,
        pulse: Pulse,
        timings: LeaseTimings,
        *,
        running: Callable[[], int],
        changed: Callable[[Trust, float], None],
        loop_turns: Callable[[], int],
        stuck_after: float,
        exit_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._pulse = pulse
        self._timings = timings
        self._running = running
        self._changed = changed
        self._loop_turns = loop_turns
        self._turns_seen = -1
        self._stuck_after = stuck_after
        self._still_for = 0.0
        self._exit = exit_process
        self._trust = Trust.HEALTHY
        self._tick = min(TICK, (timings.lost_after - timings.exit_after) / 12)
        self._armed_for: float | None = None
        self._arming = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="holdfast-watchdog", daemon=True)

    @property
    def trust(self) -> Trust:
        """What this worker may do at this moment; computed anew, so that it is never older than the question."""
        return self._timings.trust(self._pulse.age())

    @property
    def _hard_exit_after(self) -> float:
        """A little behind our own exit, and always before the ledger may declare this worker gone."""
        timings = self._timings
        return timings.exit_after + min(2 * TICK, (timings.lost_after - timings.exit_after) / 2)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._arming:
            self._disarm()

    def step(self) -> None:
        """One look: tell what changed, keep the deadline in C in step, and end the process when it must end."""
        age, trust = self._pulse.age(), self.trust
        if trust is not self._trust:
            self._trust = trust
            self._changed(trust, age)
        with self._arming:
            if self._running() == 0:
                self._disarm()
                return
            if trust is Trust.EXIT:
                self._exit(FENCED_EXIT_CODE)
                return
            if self._loop_is_stuck():
                self._exit(STUCK_EXIT_CODE)
                return
            if self._armed_for != self._pulse.accepted_at:
                self._arm()

    def _loop_is_stuck(self) -> bool:
        turns = self._loop_turns()
        self._still_for = self._still_for + self._tick if turns == self._turns_seen else 0.0
        self._turns_seen = turns
        return self._still_for >= self._stuck_after

    def handler_begins(self) -> None:
        """Arm the deadline in C, where it is not; called when `running` counts that handler already."""
        with self._arming:
            if self._armed_for is None:
                self._arm()

    def _arm(self) -> None:
        self._armed_for = self._pulse.accepted_at
        left = self._hard_exit_after - self._pulse.age()
        faulthandler.dump_traceback_later(max(left, self._tick), exit=True)

    def _disarm(self) -> None:
        if self._armed_for is not None:
            faulthandler.cancel_dump_traceback_later()
            self._armed_for = None

    def _loop(self) -> None:
        while not self._stop.wait(self._tick):
            self.step()
