"""Rate limits for any ASGI application: as middleware, before routing, so that what does not exist counts as well."""

import json
import math
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.core.ratelimit import Decision, Limit
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import client

#: What must answer whatever else happens: probes, and the scrape that tells why.
EXEMPT = frozenset({"/livez", "/readyz", "/metrics"})


class RateLimitMiddleware:
    """Admits `limit` requests of each identity, and answers the others with 429 (RFC 6585) as problem+json (RFC 9457).

    Every answer says what is left in the fields `RateLimit` and `RateLimit-Policy`
    (draft-ietf-httpapi-ratelimit-headers).

        app.add_middleware(RateLimitMiddleware, limiter=limiter, limit=Limit.parse("100/minute"))
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: RateLimiter,
        limit: Limit,
        identify: Callable[[Scope], str] = client,
        exempt: Collection[str] = EXEMPT,
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._limit = limit
        self._identify = identify
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        decision = await self._limiter.hit(self._identify(scope), self._limit)
        fields = _fields(decision)

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *fields]}
            await send(message)

        if decision.allowed:
            await self._app(scope, receive, send_with_fields)
        else:
            await _refuse(decision, send_with_fields)


def _fields(decision: Decision) -> list[tuple[bytes, bytes]]:
    limit = decision.limit
    wait = math.ceil(decision.retry_after if not decision.allowed else decision.reset_after)
    return [
        (b"ratelimit-policy", f'"default";q={limit.most};w={limit.window:g}'.encode()),
        (b"ratelimit", f'"default";r={decision.remaining};t={wait}'.encode()),
    ]


async def _refuse(decision: Decision, send: Send) -> None:
    seconds = max(math.ceil(decision.retry_after), 1)
    limit = decision.limit
    problem = {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too many requests",
        "status": 429,
        "detail": f"{limit.most} requests in {limit.window:g} s are admitted; try again in {seconds} s.",
        "violated-policies": ["default"],
        "retry_after": seconds,
    }
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"retry-after", str(seconds).encode()),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode()})
