"""An open-loop caller, in a process of its own (see bench/harness.py): requests begin at their times, come what may.

A latency counts from the moment at which its request was due, so that a server which stalls cannot hide it.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 64


class Line:
    """A connection that is kept, one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        size = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        if size:
            await reader.readexactly(size)
        return int(lines[0][9:12])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


async def load(url: str, rate: float, seconds: float, expected: int) -> dict[str, Any]:
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    # What a proxy passes on is a stranger's request, also from this machine.
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nVia: 1.1 bench\r\n\r\n".encode()
    free: asyncio.LifoQueue[Line] = asyncio.LifoQueue()
    for _ in range(CONNECTIONS):
        free.put_nowait(Line(parts.hostname or "", parts.port or 80))
    latencies: list[float] = []
    wrong = 0

    async def one(due: float) -> None:
        nonlocal wrong
        line = await free.get()
        try:
            async with asyncio.timeout(10):
                wrong += await line.ask(request) != expected
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            wrong += 1
            line = Line(parts.hostname or "", parts.port or 80)
        latencies.append(time.perf_counter() - due)
        free.put_nowait(line)

    began = time.perf_counter() + 0.1
    tasks = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait().close()
    latencies.sort()
    return {
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[int(len(latencies) * 0.99)],
        "most": latencies[-1],
        "wrong": wrong,
    }


def main() -> None:
    gc.disable()  # a pause of ours would look like one of theirs
    for line in sys.stdin:
        what = json.loads(line)
        print(json.dumps(asyncio.run(load(**what))), flush=True)


main()
