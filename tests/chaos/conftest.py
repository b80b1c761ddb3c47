"""A private Postgres for the chaos tests, one database and one fleet for each test, and the proof at the end."""

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up
from tests.chaos import proof
from tests.chaos.checker import Findings, Times
from tests.chaos.harness import LOST_AFTER, STALE_AFTER, Chaos
from tests.support import with_database

SETTINGS = {"fsync": "on", "max_connections": "60", "shared_buffers": "64MB"}
_proofs: list[proof.Proof] = []

Prove = Callable[..., None]


@pytest.fixture(scope="session")
def chaos_server() -> Iterator[EmbeddedPostgres]:
    """What is written here survives a crash, as it would elsewhere; autovacuum runs."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-chaos-", dir="/tmp"))
    base.chmod(0o755)
    server = EmbeddedPostgres(base / "data", settings=SETTINGS)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        with contextlib.suppress(Exception):
            server.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def seed() -> int:
    """The test's chance; HOLDFAST_CHAOS_SEED repeats it."""
    chosen = int(os.environ.get("HOLDFAST_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"HOLDFAST_CHAOS_SEED={chosen}")
    return chosen


@pytest.fixture
def chaos(chaos_server: EmbeddedPostgres, seed: int) -> Iterator[Chaos]:
    """One database, one folder; everything that was started is dead at the end."""
    chaos_server.start()
    name = f"chaos_{uuid4().hex}"
    with psycopg.connect(chaos_server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    dsn = with_database(chaos_server.dsn, name)
    migrate_up(dsn)
    try:
        with chaos_on(chaos_server, dsn, seed) as made:
            yield made
    finally:
        chaos_server.start()
        with psycopg.connect(chaos_server.dsn, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM RESET ALL")
            admin.execute("SELECT pg_reload_conf()")
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextlib.contextmanager
def chaos_on(server: EmbeddedPostgres, dsn: str, seed: int) -> Iterator[Chaos]:
    """A fleet that is to be, over a migrated database; HOLDFAST_CHAOS_KEEP keeps the folder with its logs."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-chaos-run-", dir="/tmp"))
    made = Chaos(server, dsn, folder, seed)
    try:
        yield made
    finally:
        made.close()
        if not os.environ.get("HOLDFAST_CHAOS_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def prove(seed: int) -> Prove:
    """Keep what a test found, then demand that nothing was broken."""

    def keep(fault: str, found: Findings, times: Times, *, held: float | None = None) -> None:
        _proofs.append(proof.Proof(fault, seed, found, times, held))
        assert found.problems == []

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _proofs:
        terminalreporter.section("times of the chaos tests, in seconds from the fault")
        for line in proof.table(_proofs):
            terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if any("chaos" in item.keywords for item in getattr(session, "items", []) if item.get_closest_marker("chaos")):
        proof.write(_proofs, {"lost_after": LOST_AFTER, "stale_after": STALE_AFTER, "beat_interval": 0.4})
