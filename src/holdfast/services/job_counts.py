"""What a worker counts of its runs, and tells the ledger every few seconds: by queue and kind how they ended, how long
jobs waited and ran. So nobody ever has to count rows of jobs.

What could not be told is told again under the same number, which the ledger knows, and what ended meanwhile later;
counts are small whatever happens, one for each kind. A process that is killed takes the last seconds of its counts with
it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from holdfast.core.histogram import SIZE, place
from holdfast.core.kind import CANARY
from holdfast.errors import DatabaseError
from holdfast.events import LedgerLost, Sinks
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger

EVERY = 5.0


@dataclass
class Count:
    """Of one queue and kind, since it was told last. `waited` and `ran` in seconds."""

    outcomes: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("succeeded", "failed", "dead", "cancelled"), 0)
    )
    waited: float = 0.0
    ran: float = 0.0
    waits: list[int] = field(default_factory=lambda: [0] * SIZE)
    runs: list[int] = field(default_factory=lambda: [0] * SIZE)

    def add(self, outcome: str, waited: float, ran: float) -> None:
        self.outcomes[outcome] += 1
        self.waited += waited
        self.ran += ran
        self.waits[place(waited)] += 1
        self.runs[place(ran)] += 1


class JobCounts:
    """`ended` is called for each run whose end the ledger took; `run` tells it, until cancelled."""

    def __init__(self, ledger: AsyncLedger, worker_id: UUID, sinks: Sinks) -> None:
        self._ledger = ledger
        self._worker_id = worker_id
        self._sinks = sinks
        self._counts: dict[tuple[str, str], Count] = {}
        self._number = 0
        self._untold: Sequence[dict[str, Any]] = ()

    def ended(self, job: calls.Claimed, status: str, outcome: str, ran: float) -> None:
        """A run ended: as the ledger says (`status`), as we told (`outcome`), after its handler `ran` for seconds."""
        if job.kind == CANARY:
            return  # ours, and no work of anybody
        name = "failed" if status == "queued" and outcome == "fail" else status
        if name in ("queued", "running"):
            return  # given back, or put off: it has not ended
        waited = max((job.claimed_at - max(job.run_at, job.created_at)).total_seconds(), 0.0)
        key = job.queue, job.kind
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Count()
        count.add(name, waited, ran)

    async def run(self) -> None:
        """Tell every few seconds."""
        while True:
            await asyncio.sleep(EVERY)
            await self.tell()

    async def tell(self) -> None:
        """Tell what was counted; where the ledger does not take it, it is told next time."""
        if not self._untold:
            self._untold = [_told(queue, kind, count) for (queue, kind), count in self._counts.items()]
            self._counts.clear()
            self._number += 1
        if not self._untold:
            return
        try:
            await self._ledger.call(calls.note_job_stats(self._worker_id, self._number, self._untold))
        except DatabaseError as error:
            self._sinks.emit(LedgerLost("note_job_stats", str(error)))
        else:
            self._untold = ()


def _told(queue: str, kind: str, count: Count) -> dict[str, Any]:
    return {
        "queue": queue,
        "kind": kind,
        **count.outcomes,
        "waited": round(count.waited, 6),
        "ran": round(count.ran, 6),
        "waits": count.waits,
        "runs": count.runs,
    }
