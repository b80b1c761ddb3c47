"""What a request may cost before a route sees it: the size of its body, the time to send it, the time to answer it.

Pure ASGI, so that it holds for every route, also those that do not exist.
"""

import asyncio
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.web.auth import caller_of
from holdfast.web.problems import Problem, unavailable

#: Bytes of a body, and seconds until it must have arrived.
MOST_BYTES = 8 * 1024 * 1024
ARRIVAL = 30.0
#: Bytes of a form in which somebody signs in.
A_KEY = 16_384


class Intake:
    """Reads the whole body, within bounds, then lets the application answer within `timeout` seconds.

    `streams`: paths whose answers go on for as long as somebody listens. `doors`: paths where a stranger becomes
    somebody, by what they send. `refuse`: a problem as an answer at that address.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        timeout: float,
        most_bytes: int = MOST_BYTES,
        arrival: float = ARRIVAL,
        streams: Collection[str] = (),
        doors: Collection[str] = (),
        refuse: Callable[[Scope, Problem], ASGIApp] = lambda _, problem: problem.response(),
    ) -> None:
        self._app = app
        self._timeout = timeout
        self._most_bytes = most_bytes
        self._arrival = arrival
        self._streams = streams
        self._doors = doors
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._streams:
            await self._app(scope, receive, send)
            return
        try:
            if not caller_of(scope).is_stranger:
                body = await self._read(receive, self._most_bytes)
            elif scope["path"] in self._doors:
                body = await self._read(receive, A_KEY)
            else:
                body = b""  # no answer to a stranger depends on what they sent
            if body is not None:
                await self._answer(scope, _Replay(body, receive), send)
        except Problem as problem:
            await self._refuse(scope, problem)(scope, receive, send)

    async def _read(self, receive: Receive, most: int) -> bytes | None:
        """The whole body; None when its sender left before its end: half a request asks for nothing."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._arrival):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    if size > most:
                        raise Problem(413, f"the body has more than {most:,} bytes; send fewer jobs in one request")
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Problem(408, f"the body did not arrive within {self._arrival:g} s") from None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def send_on(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            async with asyncio.timeout(self._timeout):
                await self._app(scope, receive, send_on)
        except TimeoutError:
            if began:
                raise
            raise unavailable(
                f"the ledger did not answer within {self._timeout:g} s; whether anything was done is not known:"
                " look, or send the same request again with an Idempotency-Key"
            ) from None


class _Replay:
    """The body that was read, and then whatever the server says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
