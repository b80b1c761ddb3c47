"""The SQS server of the demo, and what stands in front of it: counts bells, loses and doubles some when asked to."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from holdfast.cli.child import VARIABLE
from holdfast.cli.local_sqs import ACCOUNT, BELLS, LocalSqsPlan
from holdfast.errors import QueueError, QueueUnavailable
from holdfast.sqs.client import Sqs

#: Seconds: until the server must answer, between two looks at that, and for a call that is passed on.
START, LOOK, PASS_ON = 60.0, 0.1, 40.0
#: Shares of the bells that are lost, and that come twice.
LOST, DOUBLED = 0.3, 0.3
JSON = "application/x-amz-json-1.0"


@dataclass
class Bells:
    """What became of the bells sent while the server answered. `passed`: what it took, a doubled one twice."""

    sent: int = 0
    passed: int = 0
    dropped: int = 0
    doubled: int = 0


class SqsServer:
    """A local SQS server in a process of its own, which ends with this one. It keeps nothing when it is stopped."""

    def __init__(self, plan: LocalSqsPlan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait for its queues. Raises `QueueUnavailable`."""
        self._begin()
        await self._wait_for_queues()

    def _begin(self) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            plan = replace(self._plan, link=theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "holdfast.cli.local_sqs_child"],
                env={**os.environ, VARIABLE: json.dumps(asdict(plan))},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def stop(self) -> None:
        """SIGKILL to all its processes: connections break, and its queues are gone with all that was in them."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._link.close()

    async def _wait_for_queues(self) -> None:
        sqs, clock = Sqs(self._plan.url), asyncio.get_running_loop().time
        until = clock() + START
        try:
            while True:
                try:
                    await sqs.attributes(self._plan.url)
                except QueueError as error:
                    if clock() > until:
                        raise QueueUnavailable(f"the local SQS server made no queues within {START:g} s") from error
                    await asyncio.sleep(LOOK)
                else:
                    return
        finally:
            await sqs.close()


class MessageProxy:
    """Passes calls on to the server. With `chaos` some bells are said to be taken and are lost, and some come twice."""

    def __init__(self, plan: LocalSqsPlan, rng: random.Random, *, chaos: bool) -> None:
        self.bells = Bells()
        self._upstream = f"http://127.0.0.1:{plan.port}"
        self._rng = rng
        self._chaos = chaos

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port; the URL of the queue for bells, as seen through this."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PASS_ON)) as self._session:
            await runner.setup()
            try:
                listener = socket.create_server(("127.0.0.1", 0))
                await web.SockSite(runner, listener).start()
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/{ACCOUNT}/{BELLS}"
            finally:
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            if request.headers.get("X-Amz-Target", "").endswith(".SendMessageBatch"):
                return await self._send(request, json.loads(body))
            return await self._pass_on(request, body)
        except aiohttp.ClientError:
            # The server is away: its connections break, and so does this one.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)

    async def _send(self, request: web.Request, batch: Mapping[str, Any]) -> web.Response:
        """Each entry has a fate of its own; the sender is told that all of them were taken."""
        entries = batch["Entries"]
        fates = [self._fate() for _ in entries]
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        taken = 0
        for time in (2, 1):
            some = [entry for entry, fate in zip(entries, fates, strict=True) if fate >= time]
            if some:
                passed = await self._pass_on(request, json.dumps({**batch, "Entries": some}).encode())
                if passed.status != 200:
                    return passed
                answer = {"Successful": [], "Failed": [], **json.loads(passed.text or "{}")}
                taken += len(answer["Successful"])
        self.bells.sent += len(entries)
        self.bells.passed += taken
        lost = [entry for entry, fate in zip(entries, fates, strict=True) if fate == 0]
        self.bells.dropped += len(lost)
        self.bells.doubled += fates.count(2)
        answer["Successful"] += _said_to_be_taken(lost)
        return web.json_response(answer, content_type=JSON)

    def _fate(self) -> int:
        """How often a bell arrives."""
        dice = self._rng.random() if self._chaos else 1.0
        return 0 if dice < LOST else 2 if dice < LOST + DOUBLED else 1

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        kept = {
            name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")
        }
        async with self._session.request(
            request.method, f"{self._upstream}{request.rel_url}", data=body, headers=kept
        ) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=JSON)


def _said_to_be_taken(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "Id": entry["Id"],
            "MessageId": str(uuid4()),
            "MD5OfMessageBody": hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest(),
        }
        for entry in entries
    ]
