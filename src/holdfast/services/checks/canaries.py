"""Canaries as the doctor sends them."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from holdfast.core.kind import CANARY
from holdfast.core.payload import encode
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.canary import canary_kind


def make_canary(id: UUID, queue: str, arguments: str = "{}") -> calls.NewJob:
    """A canary that is not written yet. It takes no argument, so one that is given any dies of them."""
    kind = canary_kind()
    policy = encode(kind.policy.as_json(), what="policy")
    return calls.NewJob(id, queue, CANARY, arguments, policy, priority=kind.priority)


async def send_canaries(ledger: AsyncLedger, canaries: Sequence[calls.NewJob]) -> None:
    """Write them, and wake workers. Whoever is cancelled meanwhile is so after the ledger's answer: what was not
    written yet when it is taken back would be written all the same."""
    writing = asyncio.ensure_future(ledger.call(calls.enqueue_many(canaries)))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise
    await ledger.call(calls.ring([canary.queue for canary in canaries]))
