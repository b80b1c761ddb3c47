"""The lifeline: what people are told when the ledger itself is gone, and the sign of life that somebody else watches.

Incidents are rows in the ledger; with the ledger gone there is nowhere to write them. So when it has not answered for
`after` seconds, one process of this machine tells so from memory, and tells its end; a file keeps what was told, so
that a process that starts in between does not tell it again. When the ledger is back, the incident is written down.

While it answers, and stuck jobs are swept, the address of a dead man's switch is asked each minute: what watches that
address notices when all of this machine is gone.
"""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from holdfast.core import telling
from holdfast.core.incident import Action, Finding
from holdfast.errors import DatabaseError
from holdfast.events import IncidentChanged, LedgerLost, NotificationFailed, Sinks
from holdfast.notify.channel import Channel, Delivered
from holdfast.notify.deadman import ping_deadman
from holdfast.postgres.dead_letters import IncidentChange, last_sweep, record_incidents
from holdfast.postgres.ledger import AsyncLedger

#: Seconds: without an answer until it is told; between looks; between two signs of life; of a sweep that is too old for
#: one; tries to tell it over one channel, and between them.
AFTER, EVERY, SIGN_EVERY, SWEPT_WITHIN = 60.0, 10.0, 60.0, 120.0
TRIES, BETWEEN = 5, 10.0


class Lifeline:
    """Watches until cancelled. `folder` is where processes of this machine leave word for each other."""

    def __init__(
        self,
        ledger: AsyncLedger,
        channels: Mapping[str, Channel],
        sinks: Sinks,
        *,
        folder: Path,
        new_id: Callable[[], UUID],
        deadman: SecretStr | None = None,
        after: float = AFTER,
        every: float = EVERY,
        between: float = BETWEEN,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._channels = channels
        self._sinks = sinks
        self._word = folder / f"ledger-gone-{hashlib.sha256(ledger.dsn.encode()).hexdigest()[:16]}"
        self._new_id = new_id
        self._deadman = deadman
        self._after = after
        self._every = every
        self._between = between
        self._turned = turned
        self._answered_at = self._signed_at = float("-inf")

    async def run(self) -> None:
        self._answered_at = time.monotonic()
        while True:
            self._turned()
            await self.step()
            await asyncio.sleep(self._every)

    async def step(self) -> None:
        """One look at the ledger, and what it leads to."""
        try:
            swept_ago = (await self._ledger.call(last_sweep(), deadline=self._every))[0]
        except DatabaseError as error:
            if time.monotonic() - self._answered_at >= self._after:
                await self._is_gone(str(error))
            return
        self._answered_at = time.monotonic()
        await self._is_back()
        await self._sign(swept_ago)

    async def _is_gone(self, why: str) -> None:
        with self._alone() as first:
            if not first or self._word.stat().st_size:
                return
            began = time.time() - (time.monotonic() - self._answered_at)
            self._word.write_text(str(began))
            self._sinks.emit(LedgerLost("everything", why))
            await self._tell("first", telling.ledger_gone(time.time() - began))

    async def _is_back(self) -> None:
        if not self._word.exists() or not self._word.stat().st_size:
            return
        with self._alone() as first:
            told = self._word.read_text() if first else ""
            if not told:
                return
            finding = telling.ledger_gone(time.time() - float(told))
            await self._tell("resolved", telling.ledger_back(time.time() - float(told)))
            await self._write_down(finding)
            self._word.write_text("")

    async def _tell(self, reason: str, finding: Finding) -> None:
        content = {"title": finding.title, **finding.details, "place": finding.kind, "incident": self._word.name}
        await asyncio.gather(*(self._over(name, reason, content) for name in self._channels))

    async def _over(self, name: str, reason: str, content: Mapping[str, Any]) -> None:
        for number in range(TRIES):
            self._turned()
            outcome = await self._channels[name].send(reason, content)
            if isinstance(outcome, Delivered):
                return
            self._sinks.emit(NotificationFailed(name, outcome.why, number + 1, self._between))
            await asyncio.sleep(self._between if number + 1 < TRIES else 0.0)

    async def _write_down(self, finding: Finding) -> None:
        """Nobody is told of it: they were."""
        id = self._new_id()
        for action, arrived in ((Action.OPEN, 1), (Action.RESOLVE, 0)):
            change = IncidentChange(id, action, finding.kind, finding.key, finding.title, {}, arrived, {}, tell=False)
            with contextlib.suppress(DatabaseError):
                await self._ledger.call(record_incidents([change], list(self._channels)))
        self._sinks.emit(IncidentChanged(finding.kind, Action.RESOLVE, finding.title, 1))

    async def _sign(self, swept_ago: float | None) -> None:
        is_due = time.monotonic() - self._signed_at >= SIGN_EVERY
        if self._deadman is None or not is_due or swept_ago is None or swept_ago > SWEPT_WITHIN:
            return
        self._signed_at = time.monotonic()
        problem = await ping_deadman(self._deadman)
        if problem is not None:
            self._sinks.emit(NotificationFailed("deadman", problem, 1, SIGN_EVERY))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process of this machine is at it."""
        import fcntl

        self._word.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._word, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)
