"""The local SQS server's process: starts the server, makes the queues, waits. Not for people."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys

from holdfast.cli.child import VARIABLE
from holdfast.cli.local_sqs import BELLS, DEAD_BELLS, LocalSqsPlan
from holdfast.errors import QueueError
from holdfast.instrument.logs import quieten
from holdfast.sqs.client import Sqs
from holdfast.sqs.setup import QueueSetup, create

#: Seconds until the server must answer, and that it gets to end.
START, STOP = 30.0, 3.0


async def make_queues(sqs: Sqs) -> None:
    """The queue for bells with its dead-letter queue, as they should be anywhere."""
    await create(sqs, QueueSetup(BELLS, DEAD_BELLS))


async def _run(plan: LocalSqsPlan) -> int:
    settings = {"BIND_HOST": plan.host, "GATEWAY_PORT": str(plan.port), "SERVICES": "sqs"}
    server = await asyncio.create_subprocess_exec(
        plan.program,
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if plan.link is not None:
        link = socket.socket(fileno=plan.link)
        link.setblocking(False)
        loop.add_reader(link, stopped.set)
    ended = asyncio.create_task(server.wait())
    asked = asyncio.create_task(stopped.wait())
    making = asyncio.create_task(_make_queues_when_up(plan))
    await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
    making.cancel()
    if not ended.done():
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(ended), STOP)
            return 0
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        return 0
    logging.getLogger("holdfast").error("the local SQS server ended by itself, with exit code %s", ended.result())
    return 1


async def _make_queues_when_up(plan: LocalSqsPlan) -> None:
    sqs = Sqs(plan.url)
    until = asyncio.get_running_loop().time() + START
    try:
        while True:
            try:
                async with asyncio.timeout(5):
                    await make_queues(sqs)
            except (QueueError, TimeoutError) as error:
                if asyncio.get_running_loop().time() > until:
                    logging.getLogger("holdfast").error("the local SQS server did not begin to answer: %s", error)
                    return
                await asyncio.sleep(0.2)
            else:
                logging.getLogger("holdfast").info("the local SQS server answers; queues %s, %s", BELLS, DEAD_BELLS)
                return
    finally:
        await sqs.close()


def main() -> int:
    return run(LocalSqsPlan(**json.loads(os.environ.pop(VARIABLE))))


def run(plan: LocalSqsPlan) -> int:
    """Run the server until a signal, or its supervisor's end; the exit code."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    quieten()
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    return asyncio.run(_run(plan))


if __name__ == "__main__":
    sys.exit(main())
