"""The settler: tells the ledger how runs ended, in batches, and keeps what it could not tell until it can.

Results that finish while Postgres is away wait here; there are never more of them than the worker has slots, since
without the ledger nothing new is claimed. An answer that was lost is asked for again: the ledger knows the repetition.
A row that somebody holds locked is waited for once; then its result waits here, and those of the others do not.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from holdfast.errors import DatabaseError, InvalidValue
from holdfast.events import LedgerLost, Sinks
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.reads import run_status
from holdfast.services.batcher import Batcher, Told

LONGEST_PAUSE = 5.0

Key = tuple[UUID, int]


class Settler:
    """Verdicts of a run: applied, already or lost."""

    def __init__(self, ledger: AsyncLedger, worker_id: UUID, sinks: Sinks, *, dice: Callable[[], float]) -> None:
        self._ledger = ledger
        self._worker_id = worker_id
        self._sinks = sinks
        self._dice = dice
        self._locked: set[Key] = set()
        self._waits: set[asyncio.Task[None]] = set()
        self._batcher: Batcher[calls.Settlement, calls.Settled] = Batcher(self._send, weigh=_weight)

    def post(self, settlement: calls.Settlement, told: Told[calls.Settled]) -> None:
        """Settle a run, and be told of its verdict: for those who need not wait."""
        self._batcher.post(settlement, partial(self._heard, settlement, told))

    def _heard(
        self,
        settlement: calls.Settlement,
        told: Told[calls.Settled],
        settled: calls.Settled | None,
        error: BaseException | None,
    ) -> None:
        if settled is not None and settled.verdict == "locked":
            self._wait_for(settlement, told)
        else:
            told(settled, error)

    def _wait_for(self, settlement: calls.Settlement, told: Told[calls.Settled]) -> None:
        async def wait() -> None:
            told(await self._insist(settlement), None)

        task = asyncio.get_running_loop().create_task(wait())
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)

    async def settle(self, settlement: calls.Settlement) -> calls.Settled:
        """Settle a run, however long it takes."""
        settled = await self._batcher.submit(settlement)
        return settled if settled.verdict != "locked" else await self._insist(settlement)

    async def _insist(self, settlement: calls.Settlement) -> calls.Settled:
        """Settle a run whose row somebody holds locked."""
        key = (settlement.id, settlement.lease)
        pause = 0.1
        self._locked.add(key)
        try:
            while True:
                self._sinks.emit(LedgerLost("settle", f"somebody holds the row of job {settlement.id} locked"))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                settled = await self._batcher.submit(settlement)
                if settled.verdict != "locked":
                    return settled
        finally:
            self._locked.discard(key)

    async def settle_if_held(self, settlement: calls.Settlement) -> calls.Settled:
        """`settle`, where the handler may have settled the run in its own transaction: then there is nothing to say."""
        pause = 0.1
        while True:
            try:
                found = await self._ledger.call(run_status(self._worker_id, settlement.id, settlement.lease))
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("run_status", str(error)))
                await asyncio.sleep(pause * (0.5 + self._dice()))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if found and found[0] != "running":
                return calls.Settled(settlement.id, settlement.lease, "already", found[0])
            return await self.settle(settlement)

    async def idle(self) -> None:
        """Wait until everything that ended so far is settled."""
        await self._batcher.idle()

    async def _send(self, batch: Sequence[calls.Settlement]) -> list[calls.Settled]:
        pause = 0.1
        skip_locked = any((settlement.id, settlement.lease) in self._locked for settlement in batch)
        while True:
            try:
                settled = await self._ledger.call(calls.settle(self._worker_id, batch, skip_locked=skip_locked))
            except InvalidValue as error:
                return await self._apart(batch, error)
            except DatabaseError as error:
                self._sinks.emit(LedgerLost("settle", str(error)))
                await asyncio.sleep(pause * (0.5 + self._dice()))
                pause = min(pause * 2, LONGEST_PAUSE)
                skip_locked = True
            else:
                found = {(row.id.int, row.lease): row for row in settled}  # a number hashes faster than an id
                return [found[settlement.id.int, settlement.lease] for settlement in batch]

    async def _apart(self, batch: Sequence[calls.Settlement], error: InvalidValue) -> list[calls.Settled]:
        """A value that Postgres refuses must not hold up the others: halve until it is alone, then end that job."""
        if len(batch) > 1:
            half = len(batch) // 2
            return [*await self._send(batch[:half]), *await self._send(batch[half:])]
        alone = batch[0]
        stored = {"type": "result_invalid", "message": f"the outcome of this run cannot be stored: {error}"}
        return await self._send(
            [calls.Settlement(alone.id, alone.lease, "fail", error=json.dumps(stored), fingerprint="result_invalid")]
        )


def _weight(settlement: calls.Settlement) -> int:
    return len(settlement.result or "") + len(settlement.error or "")
