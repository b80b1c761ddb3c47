"""The two clients that carry calls to SQS out, behind a seam of one method, and the choice between them.

aiobotocore waits without a thread, and carries about twice as many calls out. But it pins botocore to a narrow range,
which a program's own boto3 may not fit: where it is not installed, the client of botocore, which boto3 brings, runs in
threads.
"""

import asyncio
import contextlib
import importlib.util
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

#: Seconds to connect; attempts of a call; calls at a time.
CONNECT = 3
ATTEMPTS = 3
AT_ONCE = 10


class Connection(Protocol):
    """A client of AWS's SDK, opened by its first call. What it raises is the SDK's."""

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        """What it raises where there is no such queue: the class, since servers disagree about its code."""

    async def call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry an operation of the SDK's out, such as `send_message_batch`."""

    async def close(self) -> None:
        """Close what it holds; it is not used again."""


class Connect(Protocol):
    """Makes a client for a place (region, endpoint, credentials), which waits `read` seconds for an answer."""

    def __call__(self, place: Mapping[str, str], *, read: float) -> Connection: ...


def any_connection(place: Mapping[str, str], *, read: float) -> Connection:
    """The client of aiobotocore where it is installed, else that in threads."""
    has_aio = importlib.util.find_spec("aiobotocore") is not None
    return AioConnection(place, read=read) if has_aio else ThreadConnection(place, read=read)


def is_installed() -> bool:
    """Whether one of the two can be used here."""
    return importlib.util.find_spec("botocore") is not None


class AioConnection:
    """The client of aiobotocore."""

    def __init__(self, place: Mapping[str, str], *, read: float) -> None:
        self._place, self._read = place, read
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._open = contextlib.AsyncExitStack()

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        return _missing(self._client)

    async def call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._opening:
            if self._client is None:
                self._client = await self._opened()
        answer: Mapping[str, Any] = await getattr(self._client, operation)(**arguments)
        return answer

    async def close(self) -> None:
        await self._open.aclose()

    async def _opened(self) -> Any:
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        made = get_session().create_client("sqs", config=AioConfig(**_options(self._read)), **self._place)
        return await self._open.enter_async_context(made)


class ThreadConnection:
    """The client of botocore, each call in a thread. A call whose caller is gone goes on to its end all the same.

    The threads are daemons: a program that ends waits for no SQS that hangs, as it would for those of a pool.
    """

    def __init__(self, place: Mapping[str, str], *, read: float) -> None:
        self._place, self._read = place, read
        self._client: Any = None
        self._opening = threading.Lock()
        self._free = asyncio.Semaphore(AT_ONCE)

    @property
    def missing(self) -> tuple[type[Exception], ...]:
        return _missing(self._client)

    async def call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._free.acquire()
        loop, answer = asyncio.get_running_loop(), Future[Mapping[str, Any]]()
        answer.set_running_or_notify_cancel()  # from here on it cannot be cancelled

        def carry_out() -> None:
            try:
                answer.set_result(self._call(operation, arguments))
            except BaseException as error:
                answer.set_exception(error)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._free.release)

        try:
            threading.Thread(target=carry_out, name="holdfast-sqs", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return await asyncio.wrap_future(answer)

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._opening:
            if self._client is None:
                self._client = self._opened()
        answer: Mapping[str, Any] = getattr(self._client, operation)(**arguments)
        return answer

    def _opened(self) -> Any:
        from botocore.config import Config
        from botocore.session import get_session

        return get_session().create_client("sqs", config=Config(**_options(self._read)), **self._place)


def _options(read: float) -> dict[str, Any]:
    return {
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        "connect_timeout": CONNECT,
        "read_timeout": read,
        "max_pool_connections": AT_ONCE,
    }


def _missing(client: Any) -> tuple[type[Exception], ...]:
    return () if client is None else (client.exceptions.QueueDoesNotExist,)
