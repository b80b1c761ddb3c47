"""The probe server of services without an API: workers and monitors tell on HTTP how they are, for orchestrators.

`/livez` is the progress of each process's main loop, as their supervisor hears it: neither a long job nor an outage of
the database fails it, a loop that is wedged does, whatever else still ticks. `/startupz`: every process has begun.
`/readyz`: begun, and not draining. It reads memory, opens no connection, and tells the status only; `/metrics` is there
where it was asked for, or where only this machine can reach it.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from holdfast.core.liveness import ProcessState, find_stuck
from holdfast.instrument.exposition import render
from holdfast.web.server import Server

_HEADERS = [(b"cache-control", b"no-store")]
_RETRY = (b"retry-after", b"5")


@dataclass(frozen=True)
class Service:
    """What a service tells of itself: its processes, how many there should be, and whether it is stopping."""

    processes: Callable[[], Sequence[ProcessState]]
    expected: int
    is_stopping: Callable[[], bool]
    metrics: CollectorRegistry | None = None

    def problem(self, path: str) -> str | None:
        """Why a probe fails; None is a pass."""
        processes = self.processes()
        if path == "/livez":
            return "stuck" if find_stuck(processes) else None
        if path == "/readyz" and self.is_stopping():
            return "draining"
        begun = [each for each in processes if not each.is_on_demand and each.has_begun]
        return None if len(begun) >= self.expected else "starting"


class Probes:
    """The ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, media_type, body = self._answer(scope)
        headers = [*_HEADERS, (b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
        if status == 503:
            headers.append(_RETRY)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, scope: Scope) -> tuple[int, str, bytes]:
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "application/json", json.dumps({"title": "Probes are read: GET or HEAD"}).encode()
        if path == "/metrics" and self._service.metrics is not None:
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            text, media_type = render(self._service.metrics, accept)
            return 200, media_type, text
        if path not in ("/livez", "/readyz", "/startupz"):
            known = {"title": "There are /livez, /readyz and /startupz"}
            return 404, "application/json", json.dumps(known).encode()
        problem = self._service.problem(path)
        body = {"status": "fail", "reason": problem} if problem else {"status": "pass"}
        return 503 if problem else 200, "application/json", json.dumps(body).encode()


@contextlib.asynccontextmanager
async def probing(listener: socket.socket, service: Service) -> AsyncIterator[None]:
    """Answer on a bound socket while the block runs."""
    config = uvicorn.Config(
        Probes(service), lifespan="off", ws="none", log_config=None, log_level="error", access_log=False,
        server_header=False, limit_concurrency=100, timeout_keep_alive=5, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.stop()
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()
