"""limits and throttled-py on Redis, as their documentation uses them; measures when asked (see bench/harness.py)."""

import asyncio
import json
import sys
import time

import limits.aio.storage
import limits.aio.strategies
from limits import RateLimitItemPerMinute
from throttled.asyncio import RateLimiterType, RedisStore, Throttled, rate_limiter

PORT = sys.argv[1]
MANY = 1_000_000


def moving_window():
    """The strategy of `limits` with our bound."""
    storage = limits.aio.storage.RedisStorage(f"async+redis://127.0.0.1:{PORT}", implementation="redispy")
    strategy, item = limits.aio.strategies.MovingWindowRateLimiter(storage), RateLimitItemPerMinute(MANY)
    return lambda key: strategy.hit(item, key)


def fixed_window():
    """The quickest strategy of `limits`."""
    storage = limits.aio.storage.RedisStorage(f"async+redis://127.0.0.1:{PORT}", implementation="redispy")
    strategy, item = limits.aio.strategies.FixedWindowRateLimiter(storage), RateLimitItemPerMinute(MANY)
    return lambda key: strategy.hit(item, key)


def throttled():
    """throttled-py's quickest on Redis."""
    throttle = Throttled(
        using=RateLimiterType.FIXED_WINDOW.value,
        quota=rate_limiter.per_min(MANY),
        store=RedisStore(server=f"redis://127.0.0.1:{PORT}"),
    )
    return throttle.limit


SIDES = {"moving": moving_window, "fixed": fixed_window, "throttled": throttled}
#: Each has one storage for all measurements, as a service has one.
MADE = {}


async def measure(what) -> float:
    side = what["side"]
    if side not in MADE:
        MADE[side] = SIDES[side]()
    hit, keys, count = MADE[side], what["keys"], 0
    end = time.perf_counter() + what["seconds"]

    async def caller(number: int) -> None:
        nonlocal count
        place = number * 7919
        while time.perf_counter() < end:
            place += 1
            await hit(f"{side}:{place % keys}")
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(what["callers"])))
    return count / (time.perf_counter() - began)


async def main() -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            print(json.dumps({"rate": await measure(json.loads(line))}), flush=True)
        except Exception as error:
            print(json.dumps({"error": repr(error)[:300]}), flush=True)


asyncio.run(main())
