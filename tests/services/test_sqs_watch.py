"""The watch over SQS: whatever answers at a queue's address, it tells and goes on."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holdfast.services.sqs_watch import SqsWatch, WatchedQueue
from tests.services.helpers import until


@asynccontextmanager
async def answering(body: bytes) -> AsyncIterator[str]:
    """A server that answers every request with this; the URL of a queue there."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n".encode()
        writer.write(head + b"Content-Type: application/x-amz-json-1.0\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/000000000000/orders"


@pytest.mark.parametrize(
    "body",
    [
        b'{"Attributes": {"QueueArn": "a", "RedrivePolicy": "none"}}',
        b'{"Attributes": {"QueueArn": "a", "ApproximateNumberOfMessages": "many"}}',
        b'{"Attributes": {}}',
        b"[]",
        b"",
        b"<html>Please log in</html>",
    ],
)
async def test_what_is_no_sqs_is_told_and_ends_no_loop(body: bytes) -> None:
    async with answering(body) as url:
        watch = SqsWatch([WatchedQueue(url, "bells")])
        await watch.start()
        await until(lambda: watch.seen or watch.loop.problem)
        assert watch.loop.problem is None, "a process is not restarted for what others answer"
        assert watch.seen[0].problem == "what answers for queue 'orders' is not SQS"
        await watch.stop()
