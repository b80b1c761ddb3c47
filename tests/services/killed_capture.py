"""A process that captures a dead-letter queue and is killed at one moment: before its first messages are committed, or
after, when they are not deleted yet.

    python -m tests.services.killed_capture before|after DSN QUEUE_URL
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from holdfast.app import new_id
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.keeping import Keeping
from holdfast.sqs import capture
from holdfast.sqs.client import Message, Sqs, queue_name


async def main(moment: str, dsn: str, url: str) -> None:
    setattr(capture, "LEASE", 1)  # noqa: B010
    keeping = Keeping(AsyncLedger(dsn), queue_name(url), new_id)

    async def keep(messages: Sequence[Message]) -> Sequence[Message]:
        if moment == "after":
            await keeping.keep(messages)
        os.kill(os.getpid(), signal.SIGKILL)
        return messages

    await capture.capture(Sqs(url), url, keep)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
