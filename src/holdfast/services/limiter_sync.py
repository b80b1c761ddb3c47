"""The rate limiter for programs without an event loop: Flask, Django, scripts, threads.

It has one `RateLimiter` on an event loop of its own, in a thread of its own. So all threads of the process share round
trips, and there is one implementation. After a fork the child begins anew.
"""

import asyncio
import functools
import os
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from holdfast.core.ratelimit import Decision, Limits
from holdfast.services.limiter import LimiterReport, RateLimiter

T = TypeVar("T")


class SyncRateLimiter:
    """`RateLimiter` for threads; begins at the first call, `close` when done. Options are those of `RateLimiter`.

    >>> limiter = SyncRateLimiter(None)
    >>> [limiter.hit("user:42", "2/minute").allowed for _ in range(3)]
    [True, True, False]
    >>> limiter.close()
    """

    def __init__(self, dsn: str | None, **options: Any) -> None:
        self._dsn = dsn
        self._options = options
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limiter: RateLimiter | None = None
        self._thread: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=functools.partial(_begin_anew, weakref.ref(self)))

    def hit(self, key: str, limits: Limits, *, cost: int = 1) -> Decision:
        """Ask for a request to be admitted; see `RateLimiter.hit`."""
        limiter = self._begun()
        known = limiter.refusal(key, limits, cost)
        return known if known is not None else self._run(limiter.hit(key, limits, cost=cost))

    def acquire(self, key: str, limits: Limits, *, cost: int = 1, timeout: float | None = None) -> Decision:
        """Wait until it is admitted; see `RateLimiter.acquire`."""
        return self._run(self._begun().acquire(key, limits, cost=cost, timeout=timeout))

    def peek(self, key: str, limits: Limits, *, cost: int = 1) -> Decision:
        """How it would be answered; see `RateLimiter.peek`."""
        return self._run(self._begun().peek(key, limits, cost=cost))

    def refund(self, spent: Decision) -> bool:
        """Take an admission back; see `RateLimiter.refund`."""
        return self._run(self._begun().refund(spent))

    def reset(self, key: str, policy: str | None = None) -> int:
        """Forget what was admitted; see `RateLimiter.reset`."""
        return self._run(self._begun().reset(key, policy))

    def block(self, key: str, seconds: float | None = None, *, policy: str = "") -> None:
        """Refuse an identity; see `RateLimiter.block`."""
        self._run(self._begun().block(key, seconds, policy=policy))

    def allow(self, key: str, seconds: float | None = None, *, policy: str = "") -> None:
        """Admit an identity always; see `RateLimiter.allow`."""
        self._run(self._begun().allow(key, seconds, policy=policy))

    def override(self, key: str | None, policy: str, limits: Limits, seconds: float | None = None) -> None:
        """Give an identity other limits; see `RateLimiter.override`."""
        self._run(self._begun().override(key, policy, limits, seconds))

    def clear(self, key: str | None, *, policy: str = "") -> bool:
        """Take a rule back; see `RateLimiter.clear`."""
        return self._run(self._begun().clear(key, policy=policy))

    def report(self) -> LimiterReport:
        """How it is now."""
        limiter = self._begun()

        async def look() -> LimiterReport:
            return limiter.report()

        return self._run(look())

    def close(self) -> None:
        """End; it can be used again."""
        with self._turn:
            if self._loop is not None and self._limiter is not None:
                self._run(self._limiter.stop())
                self._loop.call_soon_threadsafe(self._loop.stop)
                assert self._thread is not None
                self._thread.join()
                self._loop.close()
            self._loop = self._limiter = self._thread = None

    def __enter__(self) -> "SyncRateLimiter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begun(self) -> RateLimiter:
        found = self._limiter
        if found is not None:
            return found
        with self._turn:
            return self._limiter or self._begin()

    def _begin(self) -> RateLimiter:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdfast limiter", daemon=True)
        self._thread.start()
        self._limiter = self._run(self._started())
        return self._limiter

    async def _started(self) -> RateLimiter:
        limiter = RateLimiter(self._dsn, **self._options)
        await limiter.start()
        await limiter.looked()
        return limiter

    def forget_loop(self) -> None:
        """In a child of a fork: the thread, and with it the loop, stayed with the parent."""
        self._turn = threading.Lock()
        self._loop = self._limiter = self._thread = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _begin_anew(limiter: "weakref.ref[SyncRateLimiter]") -> None:
    found = limiter()
    if found is not None:
        found.forget_loop()
