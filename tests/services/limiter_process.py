"""A process of its own that asks one limiter, for tests: many callers on one key; prints how many were admitted."""

import asyncio
import json
import os
import sys

from holdfast import RateLimiter


async def main(plan: dict[str, object]) -> None:
    callers, each, limits = int(str(plan["callers"])), int(str(plan["each"])), str(plan["limits"])
    async with RateLimiter(str(plan["dsn"]), deadline=30.0) as limiter:
        while limiter.mode != "postgres":
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def call() -> int:
            return sum([(await limiter.hit("hot", limits)).allowed for _ in range(each)])

        admitted = await asyncio.gather(*(call() for _ in range(callers)))
    print(sum(admitted), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(os.environ["PLAN"])))
