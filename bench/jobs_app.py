"""What Holdfast's workers run in the benchmarks: a job that notes when it ran, as each peer's does."""

import asyncio
import os
import time

from holdfast import Holdfast

hf = Holdfast()
runs = os.open(os.environ.get("BENCH_RUNS", os.devnull), os.O_WRONLY | os.O_APPEND)


@hf.job("noop", queue="bench")
async def noop(payload: str) -> None:
    os.write(runs, b"%020d\n" % time.monotonic_ns())


@hf.job("sleep", queue="bench")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
    os.write(runs, b"%020d\n" % time.monotonic_ns())
