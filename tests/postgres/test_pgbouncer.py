"""The rate limiter's tests once more, through PgBouncer in transaction mode."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres.pgbouncer import VARIABLE

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "suite",
    [
        "tests/postgres/test_rate_limit.py",
        "tests/services/test_limiter.py",
        "tests/services/test_limiter_outage.py",
        "tests/services/test_limiter_processes.py",
        "tests/web/test_rate_limit.py",
    ],
)
def test_the_suite_passes_through_a_transaction_pooler(suite: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not full and not chaos", suite]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, VARIABLE: "1"}, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
