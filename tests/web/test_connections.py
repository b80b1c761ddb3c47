"""Connections that say nothing, or not enough: a real server, real sockets."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from holdfast.web.connections import Connection
from tests.services.helpers import until

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": str(size).encode()})


@asynccontextmanager
async def serving(*, head: float = 60.0, most: int = 100) -> AsyncIterator[int]:
    made = type("Made", (Connection,), {"head": head, "most": most})
    config = uvicorn.Config(echo, port=0, http=made, lifespan="off", log_config=None, timeout_keep_alive=60)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def test_who_never_sends_a_whole_head_is_closed() -> None:
    async with serving(head=0.1) as port:
        for said in (b"", b"GET / HTTP/1.1\r\nHo"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()


async def test_nor_may_the_second_request_of_a_connection_begin_and_not_go_on() -> None:
    async with serving(head=0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            writer.write(ASK)
            assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
            writer.write(b"GET / HT")
            assert await reader.read() == b""
        writer.close()


async def test_a_body_may_take_longer_than_a_head() -> None:
    async with serving(head=0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        silent, other = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            assert await silent.read() == b""  # the time for a head has passed
            writer.write(b"12345")
            assert (await reader.readuntil(b"5")).endswith(b"5")
        for each in (writer, other):
            each.close()


async def test_who_is_one_too_many_is_closed_and_the_others_are_answered() -> None:
    async with serving(most=3) as port:
        links = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        async with asyncio.timeout(20):
            closed = [await _is_closed(reader, writer) for reader, writer in links]
            assert closed == [False, False, False, True]
            links[0][1].close()
            await links[0][1].wait_closed()
            await until(lambda: _answers(port))
        for _, writer in links:
            writer.close()


def test_a_process_with_few_descriptors_takes_more_or_fewer_connections() -> None:
    """Soft and hard limit as a system may set them, in a process of its own; what becomes of them."""
    code = (
        "import resource, sys; from holdfast.web.connections import connection_class as made;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, int(sys.argv[1])));"
        "print(made().most, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    found = [
        subprocess.run([sys.executable, "-c", code, hard], capture_output=True, text=True, check=True).stdout.split()
        for hard in ("4096", "1024")
    ]
    assert found == [["1000", "1448"], ["576", "1024"]]


async def _is_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    try:
        writer.write(ASK)
        await reader.readuntil(b"\r\n\r\n")
    except (ConnectionError, asyncio.IncompleteReadError):
        return True
    return False


async def _answers(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return not await _is_closed(reader, writer)
    finally:
        writer.close()
