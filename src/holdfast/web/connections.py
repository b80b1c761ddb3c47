"""What a connection may cost: how many there are at once, and how long each may take to say what it wants.

The server has a limit for idle connections between two requests, and none for those that never send the whole head of
one. Each takes a file descriptor, and without any left nobody is answered, health checks included.
"""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

#: Seconds until the head of a request must have arrived, and connections at a time.
HEAD = 10.0
MOST = 1000
#: How many may wait to be accepted. The event loop accepts so many at a time, and closes those that are too many two
#: turns later: descriptors for them are kept free, and for everything else in this process.
BACKLOG = 128
_OTHERS = 3 * BACKLOG + 64


class Connection(H11Protocol):
    """A connection that is closed when it takes too long, or is one too many."""

    head = HEAD
    most = MOST

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    @property
    def _has_request(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        if self._has_request:
            self._forget()
        elif self._late is None:
            self._late = self.loop.call_later(self.head, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if not self._has_request:
            self.transport.close()

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def connection_class() -> type[Connection]:
    """The class for this process, which is given the descriptors that it may need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    most = MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft - _OTHERS))
    return type("Connection", (Connection,), {"most": most})
