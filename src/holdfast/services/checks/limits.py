"""Does the API refuse the request after its limit? Tried with a key of our own, so that nobody else is refused."""

import asyncio
import re
import time

import httpx

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.rate_limit import list_rate_limits
from holdfast.services.checks.deployment import Deployment, bearer

_ID, _COMPONENT = "limits.refuse", "rate limits"
_POLICY = re.compile(r"q=(\d+);w=([\d.]+)")
#: A higher limit than this is not tried: a test must not become a load.
MOST = 1000
#: Requests that are under way at a time: one after the other a thousand would take longer than a check may.
AT_A_TIME = 10
#: Seconds between two looks for decisions that were made in memory.
PAUSE = 0.5


async def check_limits(deployment: Deployment) -> Finding:
    """Send as many requests as the limit admits, several at a time, and one more."""
    if deployment.canary is None:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, "no canary key could be made")
    alone = await _alone(deployment)
    began = time.monotonic()
    first = await _ask(deployment)
    if first.status_code != 200:
        fix = "is the API on this database? Compare DATABASE_URL of both, and restart the API"
        found = f"a key made in this database is answered {first.status_code}"
        return Finding(_ID, _COMPONENT, Verdict.FAIL, found, fix=fix)
    policies = _POLICY.findall(first.headers.get("ratelimit-policy", ""))
    if not policies:
        fix = "restart the API with HOLDFAST_RATE_LIMIT set, for example 100/minute"
        return Finding(_ID, _COMPONENT, Verdict.FAIL, "the API tells of no limit", fix=fix)
    most, window = min((int(most), float(window)) for most, window in policies)
    code = f"{most} request{'s' * (most != 1)} in {window:g} s for each key"
    if most > MOST:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, f"not tried: more than {MOST} requests", code)
    admitted = 1
    while admitted < most:
        for answer in await asyncio.gather(*(_ask(deployment) for _ in range(min(AT_A_TIME, most - admitted)))):
            if answer.status_code == 429:
                found = f"429 at request {admitted + 1}, instead of at request {most + 1}"
                return await _miscounted(deployment, found, code, alone)
            if answer.status_code != 200:
                return _judge(answer, admitted + 1, most, code)
            admitted += 1
    last = await _ask(deployment)
    elapsed = time.monotonic() - began
    # A field tells of whole seconds: a window of one may be shorter.
    if last.status_code == 200 and (elapsed >= window or window <= 1):
        found = f"not tried: {most} requests take {elapsed:.3g} s from here, the window has {window:g} s"
        return Finding(_ID, _COMPONENT, Verdict.SKIP, found, code)
    if last.status_code == 200:
        return await _miscounted(deployment, f"request {most + 1} of {most} was admitted", code, alone)
    return _judge(last, most + 1, most, code)


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


async def _miscounted(deployment: Deployment, found: str, code: str, alone: int) -> Finding:
    """Not the number that was told. Where processes had to decide without the ledger, that is why."""
    end = time.monotonic() + deployment.patience.counts
    while time.monotonic() < end:
        more = await _alone(deployment) - alone
        if more > 0:
            found += f"; {more} meanwhile were decided in memory, since the database did not answer in time"
            fix = "run holdfast doctor again; if it stays so: is the database, or the machine of the API, too busy?"
            return Finding(_ID, _COMPONENT, Verdict.WARN, found, code, fix)
        await asyncio.sleep(min(PAUSE, deployment.patience.counts))
    fix = "is a proxy answering in the API's place, or do its instances use different databases or limits?"
    return Finding(_ID, _COMPONENT, Verdict.FAIL, found, code, fix)


async def _alone(deployment: Deployment) -> int:
    """Decisions that were made without the ledger, over all processes and all time."""
    return sum(policy.alone for policy in await deployment.ledger.call(list_rate_limits(1000)))


async def _ask(deployment: Deployment) -> httpx.Response:
    return await deployment.http.get("/api/keys/self", headers=bearer(deployment.canary))
