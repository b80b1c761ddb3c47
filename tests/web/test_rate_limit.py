"""The rate limit as a caller of the API meets it."""

import ipaddress
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import Depends, FastAPI

from holdfast.core.ratelimit import Limit
from holdfast.services.limiter import RateLimiter
from holdfast.web.app import create_app
from holdfast.web.identity import client
from holdfast.web.metrics import LedgerMetrics
from holdfast.web.probes import LedgerProbe
from holdfast.web.rate_limit import rate_limited
from tests.services.helpers import until


@pytest.fixture
async def api(database: str) -> AsyncIterator[httpx.AsyncClient]:
    """The application with its limit, over a real Postgres."""
    limiter = RateLimiter(database, deadline=30.0)
    await limiter.start()
    await until(lambda: limiter.mode == "postgres")
    app = create_app(
        LedgerProbe(database, schema_version=1), LedgerMetrics(database), limiter, Limit.parse("100/minute")
    )
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as made:
        yield made
    await limiter.stop()


async def test_the_101st_request_of_a_minute_is_refused_with_all_that_a_caller_needs(api: httpx.AsyncClient) -> None:
    answers = [await api.get("/nothing-here") for _ in range(101)]
    assert [answer.status_code for answer in answers] == [404] * 100 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"default";q=100;w=60'
    assert answers[0].headers["ratelimit"] == '"default";r=99;t=60'
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["ratelimit"].startswith('"default";r=0;t=')
    assert 0 < int(refused.headers["retry-after"]) <= 60
    problem = refused.json()
    assert (problem["status"], problem["title"]) == (429, "Too many requests")
    assert problem["detail"].startswith("100 requests in 60 s are admitted; try again in ")


async def test_probes_are_never_refused_and_cost_nothing(api: httpx.AsyncClient) -> None:
    assert {(await api.get("/livez")).status_code for _ in range(150)} == {200}
    assert (await api.get("/nothing-here")).headers["ratelimit"] == '"default";r=99;t=60'


async def test_a_route_may_have_a_limit_of_its_own(database: str) -> None:
    limiter = RateLimiter(database, deadline=30.0)
    await limiter.start()
    await until(lambda: limiter.mode == "postgres")
    app = FastAPI()

    @app.get("/login/{user}", dependencies=[Depends(rate_limited(limiter, Limit.parse("2/hour")))])
    async def login(user: str) -> str:
        return user

    @app.get("/other", dependencies=[Depends(rate_limited(limiter, Limit.parse("2/hour")))])
    async def other() -> str:
        return "other"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as caller:
        answers = [await caller.get(f"/login/{user}") for user in ("ann", "bob", "cat")]
        elsewhere = await caller.get("/other")
    await limiter.stop()
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].headers["ratelimit"] == '"default";r=0;t=3600'
    assert 0 < int(answers[2].headers["retry-after"]) <= 3600
    assert elsewhere.status_code == 200


def scope(peer: str | None, *forwarded: str) -> dict[str, object]:
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    return {"type": "http", "client": None if peer is None else (peer, 1), "headers": headers}


PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "identity"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9, 10.2.2.2"], "198.51.100.9"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5, nonsense, 10.3.3.3"], "10.3.3.3"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        (None, [], "unknown"),
        ("a unix socket", [], "unknown"),
    ],
)
def test_who_a_caller_is_cannot_be_chosen_by_the_caller(peer: str | None, forwarded: list[str], identity: str) -> None:
    assert client(scope(peer, *forwarded), PROXIES) == identity
