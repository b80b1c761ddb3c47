"""Dead letters: how quickly messages are captured, each kept and grouped before it is deleted, beside a bare loop."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator

import psycopg

from bench import servers
from bench.harness import NotRun, Row
from bench.sqs import sqs_server
from holdfast.app import new_id
from holdfast.cli.local_sqs import PACKAGE
from holdfast.events import Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.dlq_looks import QueueLooker
from holdfast.services.dlq_queues import Sources
from holdfast.sqs.capture import LANES
from holdfast.sqs.client import Sqs, queue_name

#: With 40,000 messages in it the local server takes minutes a round, and so would the comparison.
MANY, CAUSES, SENDERS = 8_000, 3, 8


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        letters = _Letters(dsn, stack.enter_context(sqs_server()))
        row = Row(
            f"{MANY:,} dead letters of {CAUSES} causes, captured and grouped, against a bare receive-delete loop",
            "messages a second",
            letters.captured,
            {"bare": letters.bare},
            0.8,
            note=f"both with {LANES} receives at a time, by the same client",
        )
        yield [row], {**servers.versions(dsn), "server": PACKAGE, "messages": "about 130 bytes of JSON"}


class _Letters:
    """A full queue, again and again, and two who empty it."""

    def __init__(self, dsn: str, endpoint: str) -> None:
        self._dsn, self._endpoint, self._number = dsn, endpoint, 0

    def captured(self) -> float:
        """By the monitor's own look: whole into the ledger, then out of SQS."""
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("TRUNCATE holdfast.dead_letters")
            rate = asyncio.run(self._captured())
            query = (
                "SELECT count(*), count(DISTINCT fingerprint) FROM holdfast.dead_letters WHERE captured_at IS NOT NULL"
            )
            found = conn.execute(query).fetchone()
        if found != (MANY, CAUSES):
            raise NotRun(f"not all was captured: {found}")
        return rate

    def bare(self) -> float:
        """By who receives and deletes, and keeps nothing."""
        return asyncio.run(self._bare())

    async def _captured(self) -> float:
        sqs, ledger = Sqs(self._endpoint), AsyncLedger(self._dsn)
        url = await self._filled(sqs)
        looker = QueueLooker(ledger, Sources((url,), (), (queue_name(url),)), Sinks(), longest=3600.0, new_id=new_id)
        began = time.monotonic()
        await looker.look_at(sqs, url)
        took = time.monotonic() - began
        await sqs.close()
        await ledger.close()
        return MANY / took

    async def _bare(self) -> float:
        sqs = Sqs(self._endpoint)
        url = await self._filled(sqs)
        began = time.monotonic()
        taken = sum(await asyncio.gather(*(self._take(sqs, url) for _ in range(LANES))))
        took = time.monotonic() - began
        await sqs.close()
        if taken != MANY:
            raise NotRun(f"{taken:,} of {MANY:,} messages were received")
        return MANY / took

    async def _take(self, sqs: Sqs, url: str) -> int:
        taken = 0
        while messages := await sqs.receive(url, wait=0, visibility=60):
            await sqs.delete(url, [message.receipt for message in messages])
            taken += len(messages)
        return taken

    async def _filled(self, sqs: Sqs) -> str:
        self._number += 1
        url = await sqs.create(f"orders-{self._number}-dlq", {}, {})
        share = MANY // SENDERS
        await asyncio.gather(*(self._send(sqs, url, sender * share, share) for sender in range(SENDERS)))
        return url

    async def _send(self, sqs: Sqs, url: str, first: int, count: int) -> None:
        for start in range(first, first + count, 1000):
            await sqs.send(url, [_body(number) for number in range(start, min(start + 1000, first + count))])


def _body(number: int) -> str:
    cause = ("AddressUnknown", "OutOfStock", "Timeout")[number % CAUSES]
    return json.dumps({
        "type": "ship", "job_id": f"order-{number}", "error_type": cause, "error_message": f"order {number}",
    })  # fmt: skip
