"""The rate limit as a caller of the API meets it."""

import ipaddress

import httpx
import pytest
from fastapi import Depends, FastAPI

from holdfast.core.ratelimit import Limit
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import client
from holdfast.web.rate_limit import rate_limited
from tests.services.helpers import until
from tests.web.support import Api, make_token


async def test_the_101st_request_of_a_minute_is_refused_with_all_that_a_caller_needs(api: Api) -> None:
    answers = [await api.client.get("/nothing-here") for _ in range(101)]
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


async def test_probes_are_never_refused_and_cost_nothing(api: Api) -> None:
    assert {(await api.client.get("/livez")).status_code for _ in range(150)} == {200}
    assert (await api.client.get("/nothing-here")).headers["ratelimit"] == '"default";r=99;t=60'


async def test_each_key_has_a_limit_of_its_own_and_an_invented_one_has_its_address_s(api: Api) -> None:
    first, second = [await make_token(api.services) for _ in range(2)]

    async def left(token: str) -> str:
        answer = await api.client.get("/api/keys/self", headers={"Authorization": f"Bearer {token}"})
        return str(answer.headers["ratelimit"].partition(";")[2].partition(";")[0])

    assert [await left(first), await left(first), await left(second)] == ["r=99", "r=98", "r=99"]
    assert [await left(f"invented {number}") for number in range(2)] == ["r=99", "r=98"]


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
