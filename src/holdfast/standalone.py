"""A rate limit for programs that want nothing else: one function, no set-up.

It is there for scripts and small services. A program that holds a `Holdfast` asks that, and one that limits much makes
a `RateLimiter`: both end when told to.
"""

import atexit
import contextlib

from holdfast.app import Holdfast
from holdfast.core.ratelimit import Decision
from holdfast.errors import HoldfastError

_holdfast: Holdfast | None = None


async def rate_limit(key: str, limit: int, window: float = 60.0, *, cost: int = 1) -> Decision:
    """Ask for a request of `key` to be admitted: at most `limit` in any `window` seconds, over all processes.

    The database is that of the settings (`DATABASE_URL`); without one a local one is started. The connection is opened
    by the first call. For what a decision says, and what happens while Postgres is away, see `Holdfast.rate_limit`.

    >>> async def may_send(user: str) -> bool:
    ...     return (await rate_limit(f"mail:{user}", 100, 60)).allowed
    """
    return await _own().rate_limit(key, limit, window, cost=cost)


def rate_limit_sync(key: str, limit: int, window: float = 60.0, *, cost: int = 1) -> Decision:
    """`rate_limit` for programs without an event loop: Flask, Django, scripts.

    >>> def may_sign_up(address: str) -> bool:
    ...     return rate_limit_sync(f"sign-up:{address}", 5, 3600).allowed
    """
    return _own().rate_limit_sync(key, limit, window, cost=cost)


def _own() -> Holdfast:
    global _holdfast  # noqa: PLW0603
    if _holdfast is None:
        _holdfast = Holdfast()
        atexit.register(_close, _holdfast)
    return _holdfast


def _close(holdfast: Holdfast) -> None:
    with contextlib.suppress(HoldfastError):
        holdfast.close_sync()
