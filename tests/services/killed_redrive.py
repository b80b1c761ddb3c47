"""A process that works at a redrive and is killed at its first batch: before SQS gets it, or when it has.

python -m tests.services.killed_redrive before|after DSN SOURCE_QUEUE_URL
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.app import new_id
from holdfast.events import Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services import redriver
from holdfast.services.dlq_queues import Sources
from holdfast.sqs.client import Sqs


class Killed(Sqs):
    """Dies with its first batch."""

    moment = "before"

    async def send_entries(self, url: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        if self.moment == "after":
            await super().send_entries(url, entries)
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


async def main(moment: str, dsn: str, url: str) -> None:
    setattr(redriver, "LEASE", 1.0)  # noqa: B010
    made = redriver.Redriver(AsyncLedger(dsn), Sources(source_urls=(url,)), Sinks([]), owner=new_id(), new_id=new_id)
    made._sqs = Killed(url)
    Killed.moment = moment
    while True:
        await made.step()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
