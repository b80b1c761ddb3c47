"""The disk of Postgres is full: nothing can be written, and perhaps Postgres itself ends."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import HoldfastError
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up
from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove, chaos_on
from tests.chaos.harness import LOST_AFTER, Chaos, hold_for
from tests.chaos.tcp import mounted

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root"),
]

MEGABYTES = 200
SETTINGS = {
    "fsync": "on",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "max_wal_size": "48MB",
    "min_wal_size": "32MB",
}


@pytest.fixture
def disk() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="holdfast-chaos-disk-", dir="/tmp"))
    base.chmod(0o755)
    with mounted(base / "disk", MEGABYTES) as folder:
        yield folder
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def chaos(disk: Path, seed: int) -> Iterator[Chaos]:
    server = EmbeddedPostgres(disk / "data", settings=SETTINGS)
    try:
        server.start()
        migrate_up(server.dsn)
        with chaos_on(server, server.dsn, seed) as made:
            yield made
    finally:
        server.kill()
        with contextlib.suppress(Exception):
            server.stop()


def test_the_disk_is_full_for_a_while(chaos: Chaos, disk: Path, prove: Prove) -> None:
    chaos.start(2, slots=10)
    chaos.submit("innocent", 200, 0.5)
    chaos.submit("paid", 30, 0.2)
    chaos.busy()
    fault_at, refused = time.time(), 0
    with _full(disk):
        end = time.monotonic() + 3 * LOST_AFTER
        while time.monotonic() < end:
            try:
                chaos.submit("innocent", 200, 0.01)
            except HoldfastError:
                refused += 1
                hold_for(0.2)
    chaos.server.start()  # where it was the log that could not be written, Postgres has ended
    over_at = time.time()
    assert refused, "the disk was not full"
    chaos.submit("innocent", 20, 0.1)
    chaos.all_ended(seconds=100)
    times = Times()
    times.recovered(chaos, fault_at, over_at)
    prove("Postgres's disk is full for 6 s", check(chaos), times, held=over_at - fault_at)


@contextlib.contextmanager
def _full(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        yield
    finally:
        ballast.unlink()
