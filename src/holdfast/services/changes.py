"""Tells whoever watches that something changed in the ledger: one small question a second for all of them together.

Nothing is asked while nobody listens. `end` lets all listeners go at once, for the end of the process.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from holdfast.errors import DatabaseError
from holdfast.postgres.ledger import Executor
from holdfast.postgres.overview import pulse
from holdfast.services.background import Background

_log = logging.getLogger("holdfast")

#: Seconds between two looks.
EVERY = 1.0
#: Seconds after which it looks up while nobody listens.
IDLE = 10.0


class Changes:
    """`number` grows with each change that was seen; `listeners` are there now."""

    def __init__(self, ledger: Executor, *, every: float = EVERY) -> None:
        self._ledger = ledger
        self._every = every
        self._seen: str | None = None
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self.loop = Background("changes")
        self.number = 0
        self.listeners = 0
        self.ended = False

    async def start(self) -> None:
        """Begin; returns at once."""
        self.loop.start(self._run())

    async def stop(self) -> None:
        """End, and let all listeners go."""
        self.end()
        await self.loop.stop()

    def end(self) -> None:
        """Let all listeners go, for good."""
        self.ended = True
        self._tell()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While somebody listens, the ledger is asked."""
        self.listeners += 1
        self._wanted.set()
        try:
            yield
        finally:
            self.listeners -= 1
            if not self.listeners:
                self._wanted.clear()

    async def after(self, number: int, timeout: float) -> int:
        """The number once it is not this one any more; this one when nothing changed in time, or all is at its end."""
        changed = self._changed
        if self.number == number and not self.ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await changed.wait()
        return self.number

    async def step(self) -> None:
        """One look."""
        found = (await self._ledger.call(pulse()))[0]
        if found != self._seen:
            self._seen = found
            self.number += 1
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        while True:
            self.loop.turned()
            try:
                async with asyncio.timeout(IDLE):
                    await self._wanted.wait()
                await self.step()
            except TimeoutError:
                continue  # nobody listens
            except DatabaseError:
                pass  # that the ledger is away is told elsewhere
            except Exception:
                _log.exception("a look for changes failed in an unforeseen way")
            await asyncio.sleep(self._every)
