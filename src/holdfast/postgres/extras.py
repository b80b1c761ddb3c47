"""Optional parts of the installation, with the way out where one is missing; and requests that end."""

import importlib
import time
from typing import Any

from holdfast.errors import ConfigurationError

#: Bytes of an answer that are read; no answer of ours comes near.
MOST = 64 * 1024 * 1024
CONNECT_LIMIT = 5.0


def httpx_module(what: str) -> Any:
    """The HTTP client; whoever installed the library alone may not have it."""
    try:
        return importlib.import_module("httpx")
    except ModuleNotFoundError:
        raise ConfigurationError(f"{what} is asked over HTTPS, which needs: pip install 'holdfast[server]'") from None


def request_within(client: Any, method: str, url: str, content: Any, limit: float) -> Any:
    """The whole answer to a request within `limit` seconds: the client's own limits count anew for each piece of it.

    Raises the client's errors; its `ReadTimeout` when the answer drips, its `RemoteProtocolError` when it never ends.
    """
    httpx = httpx_module("it")
    end = time.monotonic() + limit
    timeout = httpx.Timeout(limit, connect=min(CONNECT_LIMIT, limit))
    pieces, size = [], 0
    with client.stream(method, url, json=content, timeout=timeout) as answer:
        for piece in answer.iter_bytes():
            pieces.append(piece)
            size += len(piece)
            if time.monotonic() > end:
                raise httpx.ReadTimeout(f"the answer was not complete within {limit:g} s")
            if size > MOST:
                raise httpx.RemoteProtocolError(f"the answer has more than {MOST} bytes")
        fields = {name: value for name, value in answer.headers.items() if name in ("content-type", *_PAUSES)}
        return httpx.Response(answer.status_code, headers=fields, content=b"".join(pieces))


_PAUSES = ("retry-after", "x-ratelimit-reset")
