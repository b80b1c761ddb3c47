"""A decision as HTTP says it: fields of the answer, and the problem that a refusal is.

The form is that of draft-ietf-httpapi-ratelimit-headers-11 (RateLimit and RateLimit-Policy are lists of structured
fields, RFC 9651). It is a draft and still changes, so its number is in the name of the dialect. `legacy` are the
X-RateLimit-* fields, of which each vendor has its own; ours count seconds from now.
"""

import math
from collections.abc import Collection
from typing import Any, Literal

from holdfast.core.ratelimit import Decision, Limit, Quota

Dialect = Literal["draft-11", "legacy"]
DIALECTS: tuple[Dialect, ...] = ("draft-11", "legacy")
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


def fields(decision: Decision, dialects: Collection[str] = ("draft-11",)) -> list[tuple[str, str]]:
    """The fields of an answer, admitted or not. A refusal has `Retry-After` as well, never before the reset told.

    >>> from holdfast.core.ratelimit import Policy, decision
    >>> policy = Policy.parse("100/minute", name="default")
    >>> quotas = (Quota(policy.limits[0], 99, 0.0, 59.2),)
    >>> fields(decision(policy, quotas, allowed=True, source="postgres", key="ann", cost=1))
    [('RateLimit-Policy', '"default";q=100;w=60'), ('RateLimit', '"default";r=99;t=60')]
    """
    found = []
    if "draft-11" in dialects:
        named = [(_item(decision, quota.limit), quota) for quota in decision.quotas]
        policies = ", ".join(f'"{name}";q={quota.limit.most};w={_whole(quota.limit.window)}' for name, quota in named)
        states = ", ".join(f'"{name}";r={quota.remaining};t={_wait(decision, quota)}' for name, quota in named)
        found += [("RateLimit-Policy", policies), ("RateLimit", states)]
    if "legacy" in dialects:
        wait = decision.reset_after if decision.allowed else decision.retry_after
        found += [
            ("X-RateLimit-Limit", str(decision.limit.most)),
            ("X-RateLimit-Remaining", str(decision.remaining)),
            ("X-RateLimit-Reset", str(math.ceil(wait))),
        ]
    if not decision.allowed:
        found.append(("Retry-After", str(retry_after(decision))))
    return found


def retry_after(decision: Decision) -> int:
    """Whole seconds after which the same request has room; at least 1."""
    return _whole(decision.retry_after)


def problem(decision: Decision, status: int = 429) -> dict[str, Any]:
    """What a refused caller reads (problem details, RFC 9457), as JSON."""
    seconds = retry_after(decision)
    if status == 503:
        title, kind = "Temporarily reduced capacity", REDUCED_CAPACITY
        detail = f"Requests cannot be counted at the moment; try again in {seconds} s."
    else:
        title, kind = "Too many requests", QUOTA_EXCEEDED
        limits = " and ".join(_said(limit) for limit in decision.violated)
        detail = f"{limits} {'is' if limits.startswith('1 request in') else 'are'} admitted; try again in {seconds} s."
    return {
        "type": kind,
        "title": title,
        "status": status,
        "detail": detail,
        "violated-policies": [_item(decision, limit) for limit in decision.violated],
        "retry_after": seconds,
    }


def _said(limit: Limit) -> str:
    return f"{limit.most} request{'s' * (limit.most != 1)} in {limit.window:g} s"


def _item(decision: Decision, limit: Limit) -> str:
    """Each limit of a policy needs a name of its own; most policies have one limit."""
    return decision.policy if len(decision.quotas) == 1 else f"{decision.policy}-{limit.window:g}s"


def _wait(decision: Decision, quota: Quota) -> int:
    return math.ceil(quota.reset_after if decision.allowed else quota.retry_after or quota.reset_after)


def _whole(seconds: float) -> int:
    return max(math.ceil(seconds), 1)
