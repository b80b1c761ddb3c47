"""The monitors of one process: what is run beside each other, and how they end together."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from pydantic import SecretStr

from holdfast.core.bell import BellRoutes
from holdfast.core.health import Limits
from holdfast.core.incident import Pace
from holdfast.core.watch import Watch
from holdfast.errors import QueueError
from holdfast.events import QueueLost, Sinks
from holdfast.notify.channel import Channel
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.alerter import Alerter
from holdfast.services.bell_lines import BellLines
from holdfast.services.dlq_monitor import DlqMonitor
from holdfast.services.dlq_queues import Sources
from holdfast.services.health_monitor import HealthMonitor
from holdfast.services.lifeline import Lifeline
from holdfast.services.probe import run_dir
from holdfast.services.redriver import Redriver
from holdfast.services.ringer import Ringer
from holdfast.services.sqs_watch import WatchedQueue
from holdfast.services.sweeper import Sweeper
from holdfast.services.watcher import Watcher


@dataclass(frozen=True)
class MonitorSettings:
    """What to run. Times in seconds.

    `stale`: look for stuck jobs, and tell of each sweep; `dlq`: watch dead letters and deliver what is to be told;
    `bells`: the SQS queues to ring on; `watches`: tables of other programs to look for stuck jobs in.
    """

    stale: bool = False
    dlq: bool = False
    bells: BellRoutes = field(default_factory=BellRoutes)
    queues: Sequence[WatchedQueue] = ()
    sources: Sources = field(default_factory=Sources)
    dlq_interval: float = 300.0
    sweep_interval: float = 5.0
    stale_after: float = 600.0
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    keep_dead: float | None = None
    deadman: SecretStr | None = None
    run_dir: Path | None = None
    watches: Sequence[Watch] = ()


class _Loop(Protocol):
    async def run(self) -> None: ...


class Monitors:
    """Runs them until cancelled. Each has a connection of its own: none waits for another."""

    def __init__(
        self,
        dsn: str,
        settings: MonitorSettings,
        channels: Mapping[str, Channel],
        sinks: Sinks,
        *,
        new_id: Callable[[], UUID],
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._dsn = dsn
        self._settings = settings
        self._channels = channels
        self._sinks = sinks
        self._new_id = new_id
        self._turned = turned
        self._ledgers: list[AsyncLedger] = []
        self._lines: BellLines | None = None

    async def run(self) -> None:
        tasks = [asyncio.create_task(loop.run()) for loop in self._loops()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for ledger in self._ledgers:
                await ledger.close()
            if self._lines is not None:
                await self._lines.close()

    def _loops(self) -> Sequence[_Loop]:
        settings, found = self._settings, list[_Loop]()
        turns = _Turns(self._turned)
        if settings.stale:
            found.append(
                Sweeper(
                    self._ledger("stale"),
                    self._sinks,
                    interval=settings.sweep_interval,
                    stale_after=settings.stale_after,
                    tells=True,
                    turned=turns.of(0),
                )
            )
        if settings.dlq:
            letters = self._ledger("dead letters")
            found.append(
                Redriver(
                    letters,
                    settings.sources,
                    self._sinks,
                    owner=self._new_id(),
                    new_id=self._new_id,
                    turned=turns.of(5),
                )
            )
            found.append(
                DlqMonitor(
                    letters,
                    settings.sources,
                    list(self._channels),
                    self._sinks,
                    interval=settings.dlq_interval,
                    new_id=self._new_id,
                    pace=settings.pace,
                    keep_dead=settings.keep_dead,
                    turned=turns.of(1),
                )
            )
            found.append(
                HealthMonitor(
                    self._ledger("health monitor"),
                    settings.queues,
                    list(self._channels),
                    self._sinks,
                    stale_after=settings.stale_after,
                    limits=settings.limits,
                    new_id=self._new_id,
                    pace=settings.pace,
                    turned=turns.of(4),
                )
            )
            found.append(
                Lifeline(
                    self._ledger("lifeline"),
                    self._channels,
                    self._sinks,
                    folder=run_dir(settings.run_dir),
                    new_id=self._new_id,
                    deadman=settings.deadman,
                    turned=turns.of(6),
                )
            )
            found.append(
                Alerter(self._ledger("alerter"), self._channels, self._sinks, new_id=self._new_id, turned=turns.of(2))
            )
        if settings.watches:
            found.append(
                Watcher(
                    self._ledger("watched tables"),
                    settings.watches,
                    list(self._channels),
                    self._sinks,
                    interval=settings.sweep_interval,
                    new_id=self._new_id,
                    pace=settings.pace,
                    turned=turns.of(9),
                )
            )
        if settings.bells:
            ledger = self._ledger("ringer")
            self._lines = BellLines(ledger, settings.bells, failed=self._not_rung)
            found.append(Ringer(ledger, self._lines, self._sinks, turned=turns.of(3)))
        return found

    def _not_rung(self, error: QueueError) -> None:
        self._sinks.emit(QueueLost("ring", str(error)))

    def _ledger(self, name: str) -> AsyncLedger:
        ledger = AsyncLedger(self._dsn, name=f"holdfast {name}")
        self._ledgers.append(ledger)
        return ledger


class _Turns:
    """Tells of progress when every loop has turned since the last time: none that is stuck hides behind others."""

    def __init__(self, all_turned: Callable[[], None]) -> None:
        self._all_turned = all_turned
        self._waiting: dict[int, bool] = {}

    def of(self, loop: int) -> Callable[[], None]:
        """What this loop calls at each turn."""
        self._waiting[loop] = True

        def turned() -> None:
            self._waiting[loop] = False
            if not any(self._waiting.values()):
                self._waiting = dict.fromkeys(self._waiting, True)
                self._all_turned()

        return turned
