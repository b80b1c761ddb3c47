"""Limiters of Python with an exact window, in memory, one thread; measures when asked (see bench/harness.py)."""

import json
import sys
import time

import limits
import pyrate_limiter

MANY = 1_000_000_000


def moving_window(keys):
    strategy = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
    item = limits.RateLimitItemPerMinute(100)
    return lambda key: strategy.hit(item, key)


def pyrate(keys):
    """One key only: a bucket counts for all names, and each bucket has a thread."""
    assert keys == 1
    rate = pyrate_limiter.Rate(100, pyrate_limiter.Duration.MINUTE)
    limiter = pyrate_limiter.Limiter(pyrate_limiter.InMemoryBucket([rate]))
    return lambda key: limiter.try_acquire(key, blocking=False)


SIDES = {"moving": moving_window, "pyrate": pyrate}

for line in sys.stdin:
    what = json.loads(line)
    keys, hit, count = what["keys"], SIDES[what["side"]](what["keys"]), 0
    names = [f"user:{place}" for place in range(keys)]
    began = time.perf_counter()
    end = began + what["seconds"]
    while time.perf_counter() < end:
        for _ in range(100):
            hit(names[count % keys])
            count += 1
    print(json.dumps({"rate": count / (time.perf_counter() - began)}), flush=True)
