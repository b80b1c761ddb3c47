"""Rate limits for any ASGI application: as middleware, before routing, so that what does not exist counts as well.

The middleware needs no framework. What routes of FastAPI need is in route_limit.py, and is found here too.
"""

import json
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from holdfast.core.ratelimit import Decision, Limits, Policy
from holdfast.core.ratelimit_fields import fields, problem
from holdfast.services.limiter import RateLimiter
from holdfast.web.asgi import ASGIApp, Message, Receive, Scope, Send
from holdfast.web.identity import Identify

if TYPE_CHECKING:
    from holdfast.web.route_limit import RateLimited, limited, rate_limited, refused

__all__ = ["RateLimitMiddleware", "RateLimited", "limited", "rate_limited", "refused"]

#: Who sends a request, from its ASGI scope.
Identifier = Callable[[Scope], str | Awaitable[str]]
#: How many units a request costs, or how to tell from its ASGI scope.
Cost = int | Callable[[Scope], int]

#: What must answer whatever else happens: probes, and the scrape that tells why.
EXEMPT = frozenset({"/livez", "/readyz", "/startupz", "/metrics", "/api/health"})
#: What the middleware's policy is called where it has no name of its own, in headers and in the ledger.
DEFAULT = "default"


class RateLimitMiddleware:
    """Admits so many requests of each identity, and answers the others with 429 (RFC 6585) as problem+json (RFC 9457).

    Every answer says what is left. Web sockets and the application's start and end pass.

        app.add_middleware(RateLimitMiddleware, limiter=limiter, limit="100/minute")

    limit: a policy, or what one is made of. identify: who sends a request; see `holdfast.web.identity.Identify`.
    exempt: paths that are not limited. cost: units of a request, by default 1. headers: the dialects of the fields,
    "draft-11" and "legacy" (X-RateLimit-*), or none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: RateLimiter,
        limit: Limits,
        identify: Identifier | None = None,
        exempt: Collection[str] = EXEMPT,
        cost: Cost = 1,
        headers: Collection[str] = ("draft-11",),
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._policy = named(limit, DEFAULT)
        self._identify = identify or Identify()
        self._exempt = exempt
        self._cost = cost
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        cost = self._cost if isinstance(self._cost, int) else min(self._cost(scope), self._policy.capacity)
        decision = await self._limiter.hit(await identity(self._identify, scope), self._policy, cost=cost)
        found = [(name.lower().encode(), value.encode()) for name, value in fields(decision, self._headers)]

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *found]}
            await send(message)

        if decision.allowed:
            await self._app(scope, receive, send_with_fields)
        else:
            await _refuse(decision, status(decision, self._policy), scope, send_with_fields)


async def identity(identify: Identifier, scope: Scope) -> str:
    """Who sends a request."""
    found = identify(scope)
    return found if isinstance(found, str) else await found


def named(limit: Limits, name: str) -> Policy:
    """The policy of these limits, called so unless it has a name of its own."""
    policy = Policy.of(limit)
    if policy.name != Policy(policy.limits).name:
        return policy
    return Policy(policy.limits, name, policy.without_postgres, policy.shadow)


def status(decision: Decision, policy: Policy) -> int:
    """A policy that is closed while nothing can be counted refuses for want of capacity, not of quota."""
    return 503 if decision.source == "memory" and policy.without_postgres == "closed" else 429


async def _refuse(decision: Decision, status: int, scope: Scope, send: Send) -> None:
    body = json.dumps(problem(decision, status)).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from holdfast.web import route_limit
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} is for routes of FastAPI, which is missing ({error.name}): pip install 'holdfast[server]';"
            " RateLimitMiddleware needs no framework"
        ) from error
    return getattr(route_limit, name)
