"""The application that the chaos tests run; copied to a folder of the test and loaded from there by every process.

What a handler did is told outside the ledger: one line in a file of its process, with the clock of the machine. So the
checker can hold the ledger's history against what really happened.
"""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from holdfast import Context, Holdfast, RetryPolicy

hf = Holdfast()
SOON = RetryPolicy(base=0.1, factor=1.0, cap=0.1, jitter=0.0)
TICK = 0.1


def note(ctx: Context, what: str) -> None:
    """One line: job, lease, what, nanoseconds; in one write to a file that only grows."""
    path = Path(os.environ["CHAOS_EFFECTS"]) / f"{os.getpid()}"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{ctx.job_id} {ctx.lease} {what} {time.clock_gettime_ns(time.CLOCK_REALTIME)}\n".encode())
    finally:
        os.close(file)


@contextlib.contextmanager
def noted(ctx: Context) -> Iterator[None]:
    """`start`, then `end`, or `stopped` when it did not come to its end."""
    note(ctx, "start")
    try:
        yield
    except BaseException:
        note(ctx, "stopped")
        raise
    note(ctx, "end")


async def hold_on(ctx: Context, seconds: float) -> None:
    """Wait, and tell now and then that it goes on."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, TICK))
        note(ctx, "tick")


@hf.job(timeout=60.0, retry=SOON)
async def innocent(ctx: Context, seconds: float) -> None:
    with noted(ctx):
        await hold_on(ctx, seconds)


@hf.job(timeout=60.0, retry=SOON)
def in_thread(ctx: Context, seconds: float) -> None:
    """Ends early when it is asked to."""
    with noted(ctx):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if ctx.cancelled:
                raise InterruptedError("asked to end")
            time.sleep(TICK)
            note(ctx, "tick")


@hf.job(timeout=60.0, retry=SOON)
async def paid(ctx: Context, seconds: float) -> None:
    """Its effect is a row in the transaction that also ends the job."""
    with noted(ctx):
        async with ctx.transaction() as conn:
            await conn.execute("INSERT INTO chaos.effects (job_id, lease) VALUES (%s, %s)", (ctx.job_id, ctx.lease))
            await hold_on(ctx, seconds)


@hf.job(timeout=5.0, retry=SOON, isolation="process")
def isolated(ctx: Context, seconds: float) -> None:
    with noted(ctx):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(TICK)
            note(ctx, "tick")


@hf.job(timeout=60.0, retry=SOON)
async def segfaults(ctx: Context) -> None:
    with noted(ctx):
        await asyncio.sleep(TICK)
        ctypes.string_at(0)


@hf.job(timeout=60.0, retry=SOON)
async def kills_itself(ctx: Context) -> None:
    """As the kernel does when memory runs out."""
    with noted(ctx):
        await asyncio.sleep(TICK)
        os.kill(os.getpid(), signal.SIGKILL)


@hf.job(timeout=60.0, retry=SOON)
async def blocks_the_loop(ctx: Context, seconds: float) -> None:
    """In its first run only."""
    with noted(ctx):
        if ctx.lease == 1:
            time.sleep(seconds)


@hf.job(timeout=60.0, retry=SOON)
async def holds_the_lock(ctx: Context, seconds: int) -> None:
    """In its first run only: a call of C code that keeps the interpreter's lock."""
    with noted(ctx):
        if ctx.lease == 1:
            ctypes.PyDLL(None).sleep(seconds)


@hf.job(timeout=1.0, retry=SOON)
def ignores_its_cancel(ctx: Context, seconds: float) -> None:
    """In its first run only."""
    with noted(ctx):
        end = time.monotonic() + (seconds if ctx.lease == 1 else 0.1)
        while time.monotonic() < end:
            time.sleep(TICK)
            note(ctx, "tick")


@hf.job(timeout=60.0, retry=SOON, isolation="process")
def eats_memory(ctx: Context) -> None:
    """In a process that may not have more than a gigabyte."""
    with noted(ctx):
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
