"""A loop in the background of a process, and how `/livez` knows that it turns."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

#: Seconds that one turn may take: no call of a turn has a deadline near it, and an outage makes none longer.
LONGEST_TURN = 60.0


class Background:
    """Runs one loop, which calls `turned` at each turn, until `stop`.

    `name` is what people call it; a turn longer than `within` seconds is a problem.
    """

    def __init__(self, name: str, *, within: float = LONGEST_TURN) -> None:
        self.name = name
        self._within = within
        self._task: asyncio.Task[None] | None = None
        self._turned_at = 0.0

    def start(self, loop: Coroutine[Any, Any, None]) -> None:
        """Run it from now on."""
        self.turned()
        self._task = asyncio.get_running_loop().create_task(loop, name=self.name)

    def turned(self) -> None:
        """It makes progress."""
        self._turned_at = time.monotonic()

    async def stop(self) -> None:
        """End it, and wait for its end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._task is not None

    @property
    def problem(self) -> str | None:
        """Why it makes no progress, though it was started; None where all is well."""
        if self._task is None:
            return None
        if self._task.done():
            return f"the loop of {self.name} has ended"
        ago = time.monotonic() - self._turned_at
        return f"the loop of {self.name} has not turned for {ago:.0f} s" if ago > self._within else None
