"""The reporter: progress and heartbeats of this worker's jobs, many in one statement."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from uuid import UUID

from holdfast.errors import LeaseLost
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.batcher import Batcher

Item = tuple[UUID, int, str | None]


class Reporter:
    """`report` may be called from any thread; its future ends when the row is written, or with `LeaseLost`."""

    def __init__(self, ledger: AsyncLedger, worker_id: UUID) -> None:
        self._ledger = ledger
        self._worker_id = worker_id
        self._loop = asyncio.get_running_loop()
        self._batcher: Batcher[Item, str] = Batcher(self._send, weigh=lambda item: len(item[2] or ""))

    def report(self, job_id: UUID, lease: int, text: str | None) -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(self._report(job_id, lease, text), self._loop)

    async def verdicts(self, runs: Sequence[tuple[UUID, int]]) -> list[calls.LeaseVerdict]:
        """Heartbeats for many runs at once; the verdicts that are not `applied`."""
        found = await self._ledger.call(calls.progress(self._worker_id, [(id, lease, None) for id, lease in runs]))
        return [verdict for verdict in found if verdict.verdict != "applied"]

    async def _report(self, job_id: UUID, lease: int, text: str | None) -> None:
        verdict = await self._batcher.submit((job_id, lease, text))
        if verdict == "lost":
            raise LeaseLost(f"job {job_id} is no longer held under lease {lease}; nothing was written")

    async def _send(self, batch: Sequence[Item]) -> list[str]:
        newest = {(id, lease): (id, lease, text) for id, lease, text in batch}
        for id, lease, text in batch:
            if text is not None:
                newest[id, lease] = (id, lease, text)
        found = await self._ledger.call(calls.progress(self._worker_id, list(newest.values())))
        verdicts = {(row.id, row.lease): row.verdict for row in found}
        return [verdicts[id, lease] for id, lease, _ in batch]
