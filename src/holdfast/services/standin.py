"""The context of a run that no ledger knows of: a handler called directly, or inline in a test."""

import json
from concurrent.futures import Future
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from holdfast.core.kind import Kind
from holdfast.core.payload import encode
from holdfast.postgres.calls import Claimed
from holdfast.services.context import Context


class StandInContext(Context):
    """Keeps what the handler tells: `told` is its last progress, `completed` the result that it settled with."""

    def __init__(self, job: Claimed) -> None:
        super().__init__(job, self._keep, None, worker_id=UUID(int=0))
        self.told: Any = None
        self.completed: Any = None
        self.is_completed = False

    def _keep(self, text: str | None) -> "Future[None]":
        if text is not None:
            self.told = json.loads(text)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def transaction(self, result: Any = None) -> NoReturn:
        """Refused: there is no job to settle."""
        raise RuntimeError("no ledger knows of this run, so it has no ctx.transaction; use holdfast.testing.sandbox")

    async def complete(self, conn: object, result: Any = None) -> None:
        """Note the result; `conn` is not touched."""
        self.complete_sync(conn, result)

    def complete_sync(self, conn: object, result: Any = None) -> None:
        """`complete`, for handlers that are plain functions."""
        self.completed, self.is_completed = json.loads(encode(result, what=f"result of {self.kind}")), True


def stand_in(kind: Kind, id: UUID, arguments: dict[str, Any], now: datetime) -> StandInContext:
    """For the first attempt of a job with these arguments."""
    job = Claimed(
        id=id, lease=1, queue=kind.queue, kind=kind.name, args=arguments, priority=kind.priority, run_at=now,
        group_key=None, limit_key=None, attempts=0, max_attempts=kind.policy.max_attempts, crashes=0, suspect=False,
        retry_policy=None, timeout=None, silent_after=None, deadline_at=None, progress=None, traceparent=None,
        created_at=now, claimed_at=now,
    )  # fmt: skip
    return StandInContext(job)
