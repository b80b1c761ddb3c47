"""An upgrade under load: first the schema, one level on, then the programs, one after the other."""

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.postgres.migrate import body, load
from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import Chaos, hold_for, send, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

SEAL = "-- The checksum below covers every byte above this line.\n"
#: What the next level does: it changes the table of jobs and replaces the functions that everybody calls.
NEXT = "ALTER TABLE holdfast.jobs ADD COLUMN IF NOT EXISTS next_level integer;\n"
REPLACED = ("claim", "settle", "enqueue_many", "beat")


@pytest.fixture
def following(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with the next version of Holdfast: this one, and a migration more."""
    package = Path(holdfast.__file__).parent
    shutil.copytree(package, tmp_path / "holdfast", ignore=shutil.ignore_patterns("__pycache__"))
    postgres = tmp_path / "holdfast" / "postgres"
    last = load()[-1]
    version, name = last.version + 1, f"{last.version + 1:03}_next_level"
    functions = "\n".join((postgres / "functions" / f"{each}.sql").read_text() for each in REPLACED)
    text = last.text.replace(body(last.text), f"{NEXT}{functions}\nSELECT holdfast.secure_schema();\n")
    text = text.replace(f"version = {last.version})", f"version = {version})").replace(last.name, name)
    covered, _, trailer = text.partition(SEAL)
    trailer = trailer.replace(f"({last.version}, ", f"({version}, ")
    trailer = trailer.replace(last.checksum, hashlib.sha256(covered.encode()).hexdigest())
    (postgres / "migrations" / f"{name}.sql").write_text(covered + SEAL + trailer)
    return tmp_path


@pytest.fixture
def enqueued(chaos: Chaos) -> Iterator[threading.Event]:
    """Somebody enqueues all the while, until the event is set."""
    stop = threading.Event()

    def enqueue() -> None:
        while not stop.wait(0.25):
            chaos.submit("innocent", 5, 0.2)
            chaos.submit("paid", 1, 0.1)

    thread = threading.Thread(target=enqueue)
    thread.start()
    yield stop
    stop.set()
    thread.join()


def run(chaos: Chaos, following: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the next version."""
    environment = {**chaos.environment(chaos.dsn), "PYTHONPATH": str(following)}
    command = [sys.executable, "-m", "holdfast", *words]
    return subprocess.run(
        command, cwd=chaos.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_schema_goes_on_under_load_and_then_the_programs(
    chaos: Chaos, following: Path, enqueued: threading.Event, prove: Prove
) -> None:
    old = chaos.start(2, slots=10)
    chaos.busy()
    early = run(chaos, following, "worker", "chaos_app:hf")
    assert early.returncode != 0
    assert "holdfast migrate up" in early.stderr, early.stderr
    fault_at = time.time()
    migrated = run(chaos, following, "migrate", "up")
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    assert "next_level" in migrated.stdout
    over_at = time.time()
    hold_for(3)
    assert all(member.process.poll() is None for member in old)
    late = time.time()
    until(
        lambda: chaos.value("SELECT max(claimed_at) > to_timestamp(%s) FROM holdfast.jobs", late), "old code works on"
    )
    for member in old:
        (new,) = chaos.start(slots=10, environment={"PYTHONPATH": str(following)})
        send(signal.SIGTERM, member.pid)
        assert member.process.wait(30) == 0, "a program of the old version did not drain"
        assert new.process.poll() is None
    hold_for(2)
    enqueued.set()
    chaos.all_ended(seconds=60)
    times = Times()
    times.recovered(chaos, fault_at, over_at)
    prove("the schema goes a level on under load, then the programs", check(chaos), times, held=over_at - fault_at)
