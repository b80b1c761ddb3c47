"""Our side of the group `ratelimit`, in a process of its own; measures when asked (see bench/harness.py)."""

import asyncio
import json
import random
import resource
import sys
import time
from typing import Any

import psycopg_pool
from psycopg import AsyncConnection

from holdfast import Policy, RateLimiter
from holdfast.web.rate_limit import RateLimitMiddleware

DSN = sys.argv[1]
MANY = Policy.parse("1000000000/minute", name="many")


kept: list[RateLimiter] = []


async def lasting() -> RateLimiter:
    """One limiter for all measurements of this process, as a service has one."""
    if not kept:
        kept.append(RateLimiter(DSN, deadline=5.0))
        await kept[0].start()
    while kept[0].mode != "postgres":
        await asyncio.sleep(0.01)
    return kept[0]


async def hits(what: dict[str, Any]) -> dict[str, float]:
    """Callers in a closed loop: decisions a second."""
    keys, count, alone, limiter = int(what["keys"]), 0, 0, await lasting()
    end = time.perf_counter() + what["seconds"]
    stride = 7919 if keys < 100_000 else 104_729

    async def caller(number: int) -> None:
        nonlocal count, alone
        place = number * stride
        while time.perf_counter() < end:
            place += 1 if keys < 100_000 else stride
            decision = await limiter.hit(f"user:{place % keys}", MANY)
            count += 1
            alone += decision.source == "memory"

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(int(what["callers"]))))
    took = time.perf_counter() - began
    return {"rate": count / took, "alone": alone, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


async def exactly(what: dict[str, Any]) -> dict[str, float]:
    """Callers on one key of 100 a minute: how many were admitted, and decisions a second."""
    admitted = count = 0
    async with RateLimiter(DSN, deadline=5.0) as limiter:
        while limiter.mode != "postgres":
            await asyncio.sleep(0.01)
        end = time.perf_counter() + what["seconds"]

        async def caller() -> None:
            nonlocal admitted, count
            while time.perf_counter() < end:
                decision = await limiter.hit(what["key"], "100/minute")
                admitted += decision.allowed
                count += 1
                if not decision.allowed:
                    await asyncio.sleep(0)

        await asyncio.gather(*(caller() for _ in range(64)))
    return {"admitted": admitted, "rate": count / what["seconds"]}


async def select_1(what: dict[str, Any]) -> dict[str, float]:
    """Plain round trips through a pool of the same driver."""
    count = 0
    size = int(what["connections"])
    pool: psycopg_pool.AsyncConnectionPool[AsyncConnection[Any]]
    async with psycopg_pool.AsyncConnectionPool(
        DSN, min_size=size, max_size=size, kwargs={"autocommit": True}, open=False
    ) as pool:
        await pool.wait()
        end = time.perf_counter() + what["seconds"]

        async def caller() -> None:
            nonlocal count
            while time.perf_counter() < end:
                async with pool.connection() as connection:
                    await (await connection.execute("SELECT 1")).fetchone()
                count += 1

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(int(what["callers"]))))
        return {"rate": count / (time.perf_counter() - began)}


async def open_loop(what: dict[str, Any]) -> dict[str, float]:
    """Arrivals that wait for nobody (Poisson), keys as in life (Zipf over 10,000): latency from when each was due."""
    rng, latencies, alone = random.Random(7), list[float](), 0
    weights = [1 / (rank + 1) for rank in range(10_000)]
    arrivals, at = [], 0.0
    while at < what["seconds"]:
        at += rng.expovariate(what["rate"])
        arrivals.append(at)
    keys = [f"user:{rank}" for rank in rng.choices(range(10_000), weights, k=len(arrivals))]
    size, pool = 10, None
    async with RateLimiter(DSN) as limiter:
        if what["side"] == "single":
            kwargs = {"autocommit": True, "options": "-c synchronous_commit=off"}
            pool = psycopg_pool.AsyncConnectionPool(DSN, min_size=size, max_size=size, kwargs=kwargs, open=False)
            await pool.open()
            await pool.wait()
        while limiter.mode != "postgres":
            await asyncio.sleep(0.01)

        async def one(key: str, due: float) -> None:
            nonlocal alone
            if pool is None:
                alone += (await limiter.hit(key, MANY)).source == "memory"
            else:
                async with pool.connection() as connection:
                    await connection.execute("SELECT * FROM holdfast.check_rate_limit(%s, 1000000000)", (key,))
            latencies.append(time.perf_counter() - due)

        began = time.perf_counter()
        tasks = set[asyncio.Task[None]]()
        for key, at in zip(keys, arrivals, strict=True):
            if (ahead := began + at - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            task = asyncio.create_task(one(key, began + at))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        if pool is not None:
            await pool.close()
    latencies.sort()
    return {
        "p50": latencies[len(latencies) // 2] * 1e3,
        "p99": latencies[len(latencies) * 99 // 100] * 1e3,
        "alone": alone / len(latencies),
    }


async def memory(what: dict[str, Any]) -> dict[str, float]:
    """All in this process: one caller, one thread."""
    keys, count = int(what["keys"]), 0
    names = [f"user:{place}" for place in range(keys)]
    policy = Policy.parse("100/minute")
    async with RateLimiter(None) as limiter:
        began = time.perf_counter()
        end = began + what["seconds"]
        while time.perf_counter() < end:
            for _ in range(100):
                await limiter.hit(names[count % keys], policy)
                count += 1
    return {"rate": count / (time.perf_counter() - began)}


async def denied(what: dict[str, Any]) -> dict[str, float]:
    """Refusals of a key that Postgres has said to be full."""
    count = 0
    async with RateLimiter(DSN, deadline=5.0) as limiter:
        while (await limiter.hit("full", "5/hour")).source != "cache":
            await asyncio.sleep(0.01)
        began = time.perf_counter()
        end = began + what["seconds"]
        while time.perf_counter() < end:
            for _ in range(1000):
                await limiter.hit("full", "5/hour")
            count += 1000
    return {"rate": count / (time.perf_counter() - began)}


async def middleware(what: dict[str, Any]) -> dict[str, float]:
    """Microseconds that the middleware adds to a request, decided in memory."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def send(message: Any) -> None: ...

    async def each(application: Any, times: int) -> float:
        scope = {"type": "http", "path": "/", "method": "GET", "client": ("192.0.2.1", 1), "headers": HEADERS}
        began = time.perf_counter()
        for _ in range(times):
            await application(scope, None, send)
        return (time.perf_counter() - began) / times * 1e6

    limited = RateLimitMiddleware(app, limiter=RateLimiter(None), limit=what["limit"])
    await each(limited, 1000)
    return {"us": await each(limited, 20_000) - await each(app, 20_000)}


HEADERS = [(b"host", b"example.org"), (b"user-agent", b"bench"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip")]
WHAT = {
    "hits": hits,
    "exactly": exactly,
    "select_1": select_1,
    "open_loop": open_loop,
    "memory": memory,
    "denied": denied,
    "middleware": middleware,
}


async def main() -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        print(json.dumps(await WHAT[asked.pop("what")](asked)), flush=True)
    for limiter in kept:
        await limiter.stop()


asyncio.run(main())
