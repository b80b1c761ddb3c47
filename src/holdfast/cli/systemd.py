"""What a service under systemd says of itself: that it is ready, that it makes progress, that it stops.

The protocol is a datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)). The watchdog is fed while every
process below the supervisor makes progress, as `holdfast probe` judges it: a job of 25 hours or an outage of the
database does not starve it, a loop that is wedged does. Without systemd all of this does nothing.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

#: Seconds between looks, and a third of the watchdog's time where that is less.
LOOK_EVERY = 0.5


class Systemd:
    """Notifies the manager that started this process. `environ` is where it says how."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET") or None
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        micros = environ.get("WATCHDOG_USEC", "") if is_for_us else ""
        #: Seconds within which the watchdog must be fed; None where there is none.
        self.watchdog = int(micros) / 1e6 if micros.isdecimal() and int(micros) else None

    @property
    def is_there(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def tell(self, *lines: str) -> None:
        """Say something; a manager that does not take it costs nothing."""
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), address)
        except OSError:
            return

    async def accompany(
        self, is_ready: Callable[[], bool], is_alive: Callable[[], bool], is_stopping: Callable[[], bool]
    ) -> None:
        """Until cancelled: READY=1 once it is ready, WATCHDOG=1 while it is alive, STOPPING=1 once it is stopping."""
        waiting = {"READY=1": is_ready, "STOPPING=1": is_stopping}
        try:
            await self._watch(waiting, is_alive)
        finally:  # who stops within a look says so all the same
            if "STOPPING=1" in waiting:
                self.tell("STOPPING=1")

    async def _watch(self, waiting: dict[str, Callable[[], bool]], is_alive: Callable[[], bool]) -> None:
        while self.is_there:
            if self.watchdog is not None and is_alive():
                self.tell("WATCHDOG=1")
            for line in [line for line, has_come in waiting.items() if has_come()]:
                self.tell(line)
                del waiting[line]
            await asyncio.sleep(min(LOOK_EVERY, (self.watchdog or 60.0) / 3))
