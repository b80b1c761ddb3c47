"""A proxy in front of a real SQS server, which does what the network and AWS do, and no server for tests does.

Errors, answers that never arrive, calls that hang, entries of a batch that are refused; messages that are lost or
doubled, out of order, only some of them, or under a new id, as after AWS's own redrive.
"""

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from holdfast.cli.local_sqs import ACCOUNT

JSON = "application/x-amz-json-1.0"
#: Codes by which SQS refuses, and the status of each.
STATUS = {
    "ThrottlingException": 400, "RequestThrottled": 403, "OverLimit": 403, "ServiceUnavailable": 503,
    "InternalFailure": 500, "ExpiredToken": 403, "AccessDenied": 403, "InvalidClientTokenId": 403,
}  # fmt: skip

Answer = Mapping[str, Any]
Change = Callable[[dict[str, Any]], dict[str, Any]]


class FaultProxy:
    """Passes calls on, but for the faults that a test asked for.

    `asked` counts calls by operation, `carried_out` those that the server has answered.
    """

    def __init__(self, endpoint: str) -> None:
        self._upstream = endpoint
        self.asked: Counter[str] = Counter()
        self.carried_out: Counter[str] = Counter()
        self.sent: list[dict[str, Any]] = []
        self._errors: dict[str, list[str]] = {}
        self._lost: Counter[str] = Counter()
        self._held: dict[str, asyncio.Event] = {}
        self._refused: dict[str, Callable[[int], str | None]] = {}
        self._requests: dict[str, Change] = {}
        self._answers: dict[str, Change] = {}
        self._played: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {}
        self._rng = random.Random(7)

    def url(self, name: str) -> str:
        return f"{self.endpoint}/{ACCOUNT}/{name}"

    def fail(self, operation: str, code: str, *, times: int = 1_000_000) -> None:
        """The next calls are answered with this error, and do nothing."""
        self._errors[operation] = [code] * min(times, 10_000)

    def lose_answers(self, operation: str, *, times: int) -> None:
        """The next calls are carried out, and their connections end instead of an answer."""
        self._lost[operation] = times

    def hold(self, operation: str) -> None:
        """Calls are not passed on, and not answered, until `heal`."""
        self._held[operation] = asyncio.Event()

    def refuse(self, operation: str, code_of: Callable[[int], str | None]) -> None:
        """Entries of a batch, each with its code, by their places; None lets one through."""
        self._refused[operation] = code_of

    def change_request(self, operation: str, change: Change) -> None:
        self._requests[operation] = change

    def change_answer(self, operation: str, change: Change) -> None:
        self._answers[operation] = change

    def play(self, operation: str, answer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
        """Calls are answered here: the server does not know them."""
        self._played[operation] = answer

    def lose_messages(self, share: float = 1.0) -> None:
        """What is sent is said to be taken, and gone."""

        def change(batch: dict[str, Any]) -> dict[str, Any]:
            kept = [each for each in batch["Entries"] if self._rng.random() >= share]
            gone = [each for each in batch["Entries"] if each not in kept]
            return {**batch, "Entries": kept, "_gone": [{"Id": each["Id"], "MessageId": "x"} for each in gone]}

        self.change_request("SendMessageBatch", change)

    def multiply_messages(self, times: int) -> None:
        """Every message of a batch arrives so many times."""

        def change(batch: dict[str, Any]) -> dict[str, Any]:
            return {**batch, "_times": times}

        self.change_request("SendMessageBatch", change)

    def show_some(self, share: float = 0.5) -> None:
        """A receive brings some of what is there, in any order; the rest stays hidden for its visibility timeout."""

        def change(answer: dict[str, Any]) -> dict[str, Any]:
            found = [each for each in answer.get("Messages", []) if self._rng.random() < share]
            self._rng.shuffle(found)
            return {**answer, "Messages": found}

        self.change_answer("ReceiveMessage", change)

    def rename_messages(self) -> None:
        """Each receive shows messages under new ids, as after a redrive by AWS."""

        def change(answer: dict[str, Any]) -> dict[str, Any]:
            return {**answer, "Messages": [{**each, "MessageId": str(uuid4())} for each in answer.get("Messages", [])]}

        self.change_answer("ReceiveMessage", change)

    def heal(self) -> None:
        """No fault any more; what was held goes on."""
        for event in self._held.values():
            event.set()
        for faults in (self._errors, self._lost, self._held, self._refused, self._requests, self._answers):
            faults.clear()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultProxy"]:
        app = web.Application(client_max_size=1 << 22)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        async with aiohttp.ClientSession() as self._session:
            await runner.setup()
            listener = socket.create_server(("127.0.0.1", 0))
            self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
            await web.SockSite(runner, listener).start()
            try:
                yield self
            finally:
                self.heal()
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = json.loads(await request.read() or b"{}")
        self.asked[operation] += 1
        if operation in self._held:
            await self._held[operation].wait()
        if self._errors.get(operation):
            return _error(self._errors[operation].pop())
        if operation in self._played:
            return web.json_response(await self._played[operation](body), content_type=JSON)
        if operation in self._requests:
            body = self._requests[operation](body)
        answer, status, headers = await self._carry_out(request, operation, body)
        self.carried_out[operation] += 1
        if self._lost[operation] > 0:
            self._lost[operation] -= 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if operation in self._answers and status == 200:
            answer = self._answers[operation](dict(answer))
        return web.json_response(answer, status=status, headers=headers, content_type=JSON)

    async def _carry_out(
        self, request: web.Request, operation: str, body: dict[str, Any]
    ) -> tuple[Answer, int, Mapping[str, str]]:
        gone, times, failed = body.pop("_gone", []), body.pop("_times", 1), list[Answer]()
        if operation in self._refused:
            codes = [self._refused[operation](place) for place in range(len(body["Entries"]))]
            named = list(zip(body["Entries"], codes, strict=True))
            failed = [_failed(entry["Id"], code) for entry, code in named if code is not None]
            body["Entries"] = [entry for entry, code in named if code is None]
        if operation == "SendMessageBatch":
            self.sent += body["Entries"]
        answer: Answer = {"Successful": [], "Failed": []}
        status, headers = 200, dict[str, str]()
        for _ in range(times if body.get("Entries", True) else 0):
            answer, status, headers = await self._pass_on(request, body)
        if status == 200 and (gone or failed):
            answer = {
                "Successful": [*answer.get("Successful", []), *gone],
                "Failed": [*answer.get("Failed", []), *failed],
            }
        return answer, status, headers

    async def _pass_on(
        self, request: web.Request, body: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int, dict[str, str]]:
        kept = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "content-length")}
        url = f"{self._upstream}{request.rel_url}"
        async with self._session.request(request.method, url, data=json.dumps(body).encode(), headers=kept) as found:
            kept_back = {name: found.headers[name] for name in ("x-amzn-query-error",) if name in found.headers}
            return json.loads(await found.read() or b"{}"), found.status, kept_back


def _error(code: str) -> web.Response:
    body = {"__type": f"com.amazonaws.sqs#{code}", "message": "as the test asked"}
    return web.json_response(body, status=STATUS.get(code, 400), content_type=JSON)


def _failed(id: str, code: str) -> Answer:
    return {"Id": id, "Code": code, "SenderFault": code not in ("InternalError", "ServiceUnavailable")}


@asynccontextmanager
async def faulty(endpoint: str) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server, for the time of a test."""
    async with FaultProxy(endpoint).serving() as proxy:
        yield proxy
