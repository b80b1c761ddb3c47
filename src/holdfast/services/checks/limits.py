"""Does the API refuse the request after its limit? Tried with a key of our own, so that nobody else is refused."""

import re

import httpx

from holdfast.core.findings import Finding, Verdict
from holdfast.services.checks.deployment import Deployment

_ID, _COMPONENT = "limits.refuse", "rate limits"
_POLICY = re.compile(r"q=(\d+);w=(\d+)")
#: A higher limit than this is not tried: a test must not become a load.
MOST = 1000


async def check_limits(deployment: Deployment) -> Finding:
    """Send as many requests as the limit admits, and one more."""
    if deployment.token is None:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, "no canary key could be made")
    first = await _ask(deployment)
    if first.status_code != 200:
        fix = "is the API on this database? Compare DATABASE_URL of both, and restart the API"
        found = f"a key made in this database is answered {first.status_code}"
        return Finding(_ID, _COMPONENT, Verdict.FAIL, found, fix=fix)
    policy = _POLICY.search(first.headers.get("ratelimit-policy", ""))
    if policy is None:
        fix = "restart the API with HOLDFAST_RATE_LIMIT set, for example 100/minute"
        return Finding(_ID, _COMPONENT, Verdict.FAIL, "the API tells of no limit", fix=fix)
    most, window = int(policy[1]), int(policy[2])
    code = f"{most} requests in {window} s for each key"
    if most > MOST:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, f"not tried: more than {MOST} requests", code)
    for number in range(2, most + 2):
        answer = await _ask(deployment)
        if answer.status_code != 200:
            return _judge(answer, number, most, code)
    fix = "is a proxy answering in the API's place, or does it share no count between its instances?"
    return Finding(_ID, _COMPONENT, Verdict.FAIL, f"request {most + 1} of {most} was admitted", code, fix)


def _judge(answer: httpx.Response, number: int, most: int, code: str) -> Finding:
    found = f"{answer.status_code} at request {number}"
    if answer.status_code != 429 or number != most + 1:
        fix = "compare with the answer of the API: curl -i .../api/keys/self"
        return Finding(_ID, _COMPONENT, Verdict.FAIL, f"{found}, instead of 429 at request {most + 1}", code, fix)
    wanted = ("retry-after", "ratelimit", "ratelimit-policy")
    missing = [name for name in wanted if name not in answer.headers]
    if missing or answer.headers.get("content-type") != "application/problem+json":
        fix = "a proxy changes the API's answers: let it pass header fields and bodies of 429 on"
        return Finding(_ID, _COMPONENT, Verdict.FAIL, f"{found}, without {', '.join(missing) or 'its body'}", code, fix)
    return Finding(_ID, _COMPONENT, Verdict.PASS, f"{found}, Retry-After {answer.headers['retry-after']} s", code)


async def _ask(deployment: Deployment) -> httpx.Response:
    return await deployment.http.get("/api/keys/self", headers=deployment.authorisation)
