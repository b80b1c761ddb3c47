"""Many processes on one key: exactly the limit is admitted, whatever the clocks of their hosts say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import eventually
from tests.support import Session, row

ROOT = Path(__file__).resolve().parents[2]

#: Loaded by Python itself at its start: everything that asks Python for the time of day gets another one.
ANOTHER_TIME = """
import time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {shift}
time.time_ns = lambda: real_ns() + {shift} * 10**9
"""


def admitted(dsn: str, shifts: list[int], folder: Path, *, callers: int = 64, each: int = 10) -> list[int]:
    """How many requests each process was admitted; all of them begin together."""
    plan = json.dumps({"dsn": dsn, "callers": callers, "each": each, "limits": "100 per 60 seconds"})
    processes = []
    for number, shift in enumerate(shifts):
        site = folder / f"process-{number}"
        site.mkdir()
        (site / "sitecustomize.py").write_text(ANOTHER_TIME.format(shift=shift))
        environment = {**os.environ, "PLAN": plan, "PYTHONPATH": f"{site}:{ROOT}"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.services.limiter_process"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [int(process.communicate(timeout=60)[0]) for process in processes]


def test_four_processes_hammering_one_key_are_admitted_exactly_the_limit(
    database: str, conn: Session, tmp_path: Path
) -> None:
    counts = admitted(database, [0, 0, 0, 0], tmp_path)
    assert sum(counts) == 100
    decided = row(conn, "SELECT sum(decisions) AS n FROM holdfast.rate_limit_totals")["n"]
    assert decided == 4 * 64 * 10


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_process_whose_clock_is_an_hour_off_is_limited_like_the_others(
    database: str, tmp_path: Path, shift: int
) -> None:
    assert sum(admitted(database, [0, shift], tmp_path, callers=8)) == 100


#: What a server does that loads an application and forks its processes then.
FORKS = """
import asyncio, os, sys
from holdfast import RateLimiter

limiter = RateLimiter(sys.argv[1])
os.fork()
os.fork()


async def serve():
    async with limiter:
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(serve())
"""


def test_processes_that_were_forked_with_a_limiter_count_each_for_itself(database: str, conn: Session) -> None:
    process = subprocess.Popen([sys.executable, "-c", FORKS, database], stdin=subprocess.PIPE)
    try:
        eventually(lambda: row(conn, "SELECT count(*) AS n FROM holdfast.rate_limit_instances")["n"] == 4 or None)
    finally:
        process.communicate()
