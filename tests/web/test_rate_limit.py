"""The rate limit as a caller of the API meets it."""

import asyncio
import ipaddress
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.types import Receive, Scope, Send

from holdfast.core.ratelimit import Limit, Policy
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import Identify, client, proxy_hint
from holdfast.web.rate_limit import RateLimited, RateLimitMiddleware, limited, rate_limited, refused
from tests.services.helpers import until
from tests.support import Session, row
from tests.web.support import HERE, Api, api_over, make_token


@pytest.fixture
async def limiter(database: str) -> AsyncIterator[RateLimiter]:
    """Over a real Postgres, and with patience, so that a busy machine does not make it turn to memory."""
    async with RateLimiter(database, deadline=30.0) as made:
        await until(lambda: made.mode == "postgres")
        yield made


def calling(app: Any, peer: str = "192.0.2.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 1234)), base_url="http://here")


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """The smallest application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_the_101st_request_of_a_minute_is_refused_with_all_that_a_caller_needs(api: Api) -> None:
    answers = [await api.client.get("/nothing-here") for _ in range(101)]
    assert [answer.status_code for answer in answers] == [404] * 100 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"default";q=100;w=60'
    assert answers[0].headers["ratelimit"] == '"default";r=99;t=60'
    assert "retry-after" not in answers[0].headers
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["ratelimit"].startswith('"default";r=0;t=')
    assert 0 < int(refused.headers["retry-after"]) <= 60
    problem = refused.json()
    assert (problem["status"], problem["title"]) == (429, "Too many requests")
    assert problem["type"].endswith("#quota-exceeded")
    assert problem["violated-policies"] == ["default"]
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


async def test_the_api_shares_its_count_with_other_languages(api: Api, conn: Session) -> None:
    await api.client.get("/nothing-here")
    found = row(conn, f"SELECT * FROM holdfast.check_rate_limit('{HERE}', 100, 60, 1, 'default')")
    assert found["remaining"] == 98


async def test_any_application_is_limited_with_the_fields_that_it_wants(limiter: RateLimiter) -> None:
    app = RateLimitMiddleware(plain, limiter=limiter, limit="2/second, 3/hour", headers=("draft-11", "legacy"))
    async with calling(app) as caller:
        answers = [await caller.get("/") for _ in range(3)]
        head = await caller.head("/")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"default-1s";q=2;w=1, "default-3600s";q=3;w=3600'
    assert answers[0].headers["x-ratelimit-remaining"] == "1"
    assert answers[2].json()["violated-policies"] == ["default-1s"]
    assert (head.status_code, head.content) == (429, b"")
    async with calling(RateLimitMiddleware(plain, limiter=limiter, limit="2/hour", headers=())) as caller:
        assert not [name for name in (await caller.get("/")).headers if "ratelimit" in name]


async def test_a_request_may_cost_more_than_one_unit(limiter: RateLimiter) -> None:
    def cost(scope: Scope) -> int:
        return 500 if scope["path"] == "/all" else 4

    async with calling(RateLimitMiddleware(plain, limiter=limiter, limit="10/hour", cost=cost)) as caller:
        paths = ["/some", "/all", "/some", "/some"]
        assert [(await caller.get(path)).status_code for path in paths] == [200, 429, 200, 429]


async def test_who_proves_who_he_is_has_a_limit_of_his_own(limiter: RateLimiter) -> None:
    async def authenticate(scope: Scope) -> str | None:
        found = dict(scope["headers"]).get(b"x-api-key")
        return "key:7f3a" if found == b"secret" else None

    identify = Identify(authenticate=authenticate)
    async with calling(RateLimitMiddleware(plain, limiter=limiter, limit="1/hour", identify=identify)) as caller:
        keys = ["secret", "guess 1", "guess 2", "secret"]
        answers = [await caller.get("/", headers={"x-api-key": key}) for key in keys]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


async def test_a_closed_policy_says_that_it_cannot_count() -> None:
    policy = Policy.parse("5/minute", name="login", without_postgres="closed")
    async with RateLimiter("postgresql://u@127.0.0.1:1/x") as alone:
        answer = await calling(RateLimitMiddleware(plain, limiter=alone, limit=policy)).get("/")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("#temporary-reduced-capacity")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_web_sockets_and_the_start_of_the_application_pass(kind: str) -> None:
    passed: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    async def nothing(*_: Any) -> Any: ...

    limited_app = RateLimitMiddleware(app, limiter=RateLimiter(None), limit="1/hour")
    for _ in range(3):
        await limited_app({"type": kind}, nothing, nothing)
    assert len(passed) == 3


async def test_a_route_may_have_a_limit_of_its_own(limiter: RateLimiter) -> None:
    app = FastAPI()

    @app.get("/login/{user}", dependencies=[Depends(rate_limited(limiter, Limit.parse("2/hour")))])
    async def login(user: str) -> str:
        return user

    @app.get("/other", dependencies=[Depends(rate_limited(limiter, Limit.parse("2/hour")))])
    async def other() -> str:
        return "other"

    async with calling(app) as caller:
        answers = [await caller.get(f"/login/{user}") for user in ("ann", "bob", "cat")]
        elsewhere = await caller.get("/other")
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].headers["ratelimit"] == '"/login/{user}";r=0;t=3600'
    assert 0 < int(answers[2].headers["retry-after"]) <= 3600
    assert elsewhere.status_code == 200


async def test_a_route_refuses_as_a_problem_and_its_limit_is_its_own(limiter: RateLimiter) -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, limiter=limiter, limit="50/hour")
    app.add_exception_handler(RateLimited, refused)
    app.post("/login", dependencies=[Depends(rate_limited(limiter, "2/hour"))])(lambda: "in")
    app.post('/caf\xe9/"x"', dependencies=[Depends(rate_limited(limiter, "2/hour"))])(lambda: "in")
    await limiter.override(None, "default", "60/hour")
    async with calling(app) as caller:
        answers = [await caller.post("/login") for _ in range(3)]
        assert (await caller.post('/caf\xe9/"x"')).status_code == 200
        await limiter.block("192.0.2.1", policy="/login")
        assert (await caller.post("/login")).status_code == 429
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    last = answers[2]
    assert last.headers["content-type"] == "application/problem+json"
    assert last.json()["violated-policies"] == ["/login"]
    assert last.headers["ratelimit-policy"] == '"/login";q=2;w=3600, "default";q=60;w=3600'


async def test_routes_under_a_policy_with_a_name_share_one_count(limiter: RateLimiter) -> None:
    app = FastAPI()
    search = Policy.parse("2/hour", name="search")
    for path in ("/people", "/places"):
        app.get(path, dependencies=[Depends(rate_limited(limiter, search))])(lambda: "found")
    async with calling(app) as caller:
        answers = [await caller.get(path) for path in ("/people", "/places", "/people", "/places")]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


async def test_a_decorated_route_keeps_its_parameters(limiter: RateLimiter) -> None:
    app = FastAPI()

    @app.get("/waits/{user}")
    @limited(limiter, "2/hour")
    async def waits(user: str, times: int = 1) -> str:
        return user * times

    @app.get("/works/{user}")
    @limited(limiter, "2/hour")
    def works(user: str) -> str:
        return f"{user} {asyncio._get_running_loop()}"

    async with calling(app) as caller:
        assert (await caller.get("/waits/ann?times=2")).json() == "annann"
        assert (await caller.get("/waits/ann?times=x")).status_code == 422
        assert [(await caller.get("/waits/bob")).status_code for _ in range(2)] == [429, 429]
        assert (await caller.get("/works/ann")).json() == "ann None", "a plain function has a thread of its own"
    assert await waits("ann", times=3) == "annannann"


async def test_metrics_tell_of_the_limiter_and_of_all_decisions(database: str) -> None:
    async with api_over(database, rate_limit=Policy.parse("1/minute", name="default")) as api:
        assert [(await api.client.get("/none")).status_code for _ in range(3)] == [404, 429, 429]

        async def told() -> str:
            await api.services.watch.look("limits")
            text = (await api.client.get("/metrics")).text
            found = 'holdfast_rate_limit_decisions_total{outcome="refused",policy="default",source="cache"} 2.0' in text
            return text if found else ""

        text = await until(told)
    assert 'holdfast_rate_limit_decisions_total{outcome="admitted",policy="default",source="postgres"} 1.0' in text
    assert "holdfast_rate_limit_degraded 0.0" in text
    assert "holdfast_rate_limit_instances 1.0" in text
    assert 'holdfast_rate_limit_flight_seconds{percentile="p99"}' in text


# Who it is


def scope(peer: str | None, *forwarded: str, forwarded_by: bytes = b"x-forwarded-for") -> dict[str, Any]:
    headers = [(forwarded_by, each.encode()) for each in forwarded]
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
        ("10.0.0.1", ["198.51.100.9:4711, 10.2.2.2"], "198.51.100.9"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5, nonsense, 10.3.3.3"], "10.3.3.3"),
        ("10.0.0.1", ["203.0.113.5," * 100_000], "10.0.0.1"),
        ("10.0.0.1", [", ".join(["10.1.1.1"] * 5000) + ", 203.0.113.5"], "203.0.113.5"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.9"], "198.51.100.9"),
        ("fd00::1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("64:ff9b::192.0.2.1", [], "192.0.2.1"),
        (None, [], "unknown"),
        ("a unix socket", [], "unknown"),
    ],
)
def test_who_a_caller_is_cannot_be_chosen_by_the_caller(peer: str | None, forwarded: list[str], identity: str) -> None:
    assert client(scope(peer, *forwarded), PROXIES) == identity


@pytest.mark.parametrize(
    ("forwarded", "identity"),
    [
        ("for=198.51.100.9", "198.51.100.9"),
        ("for=203.0.113.5, for=198.51.100.9;proto=https", "198.51.100.9"),
        ('proto=https; For="[2001:db8:1:2::17]:4711"', "2001:db8:1:2::/64"),
        ('for="198.51.100.9:80"', "198.51.100.9"),
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("by=10.0.0.2", "10.0.0.1"),
    ],
)
def test_the_standard_field_is_read_where_the_older_is_missing(forwarded: str, identity: str) -> None:
    assert client(scope("10.0.0.1", forwarded, forwarded_by=b"forwarded"), PROXIES) == identity


def test_the_prefix_of_an_ipv6_customer_can_be_set() -> None:
    assert client(scope("2001:db8:1:2:3:4:5:6"), v6_prefix=56) == "2001:db8:1::/56"


async def test_a_proxy_that_nobody_named_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    identify = Identify(PROXIES)
    with caplog.at_level(logging.WARNING, "holdfast"):
        assert await identify(scope("10.0.0.1", "198.51.100.9")) == "198.51.100.9"
        assert await identify(scope("8.8.8.8", "198.51.100.9")) == "8.8.8.8"
        assert not caplog.records
        for _ in range(3):
            assert await identify(scope("172.17.0.5", "198.51.100.9")) == "172.17.0.5"
    (told,) = caplog.messages
    assert "HOLDFAST_TRUSTED_PROXIES=172.17.0.5" in told


def test_a_platform_with_a_proxy_is_told_of_at_the_start() -> None:
    assert "Fly.io" in str(proxy_hint({"FLY_APP_NAME": "x"}, ()))
    assert proxy_hint({"FLY_APP_NAME": "x"}, ["10.0.0.0/8"]) is None
    assert proxy_hint({"HOME": "x"}, ()) is None


async def test_an_application_that_gives_no_headers_is_limited_as_any_other(limiter: RateLimiter) -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async with calling(RateLimitMiddleware(bare, limiter=limiter, limit="1/minute")) as caller:
        answers = [await caller.get("/") for _ in range(2)]
    assert [(answer.status_code, answer.headers["ratelimit"].split(";")[1]) for answer in answers] == [
        (204, "r=0"), (429, "r=0"),
    ]  # fmt: skip


#: What the package alone brings has no framework: these are as if they were not installed.
WITHOUT_FRAMEWORK = """
import asyncio, sys
for name in ("fastapi", "starlette", "uvicorn", "httpx", "typer", "aiobotocore", "botocore", "prometheus_client"):
    sys.modules[name] = None
from holdfast import RateLimiter
from holdfast.web.identity import Identify
from holdfast.web.rate_limit import RateLimitMiddleware

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})

async def main():
    said = []
    async def send(message):
        said.append(message.get("status"))
    async with RateLimiter(sys.argv[1] or None) as limiter:
        limited = RateLimitMiddleware(app, limiter=limiter, limit="2/minute", identify=Identify())
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
        for _ in range(3):
            await limited(scope, None, send)
    print([each for each in said if each])
    try:
        from holdfast.web.rate_limit import rate_limited
    except ImportError as error:
        print(error)

asyncio.run(main())
"""


@pytest.mark.parametrize("with_ledger", [False, True], ids=["in memory", "in the ledger"])
def test_the_middleware_needs_the_package_alone(database: str, *, with_ledger: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FRAMEWORK, database if with_ledger else ""],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    statuses, told = done.stdout.splitlines()
    assert statuses == "[200, 200, 429]"
    assert told.startswith("rate_limited is for routes of FastAPI, which is missing (fastapi): pip install")
