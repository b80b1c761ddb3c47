"""Servers that benchmarks need, each made anew for one run: everybody reaches them over TCP on loopback."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

from bench.harness import NotRun
from holdfast.postgres.embedded import DATABASE, ROLE, EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up

SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB"}


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that the server's account may enter, gone at the end."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-bench-", dir="/tmp"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def postgres(base: Path, settings: Mapping[str, str] = SETTINGS) -> Iterator[str]:
    """A migrated Postgres with fsync on and the default synchronous_commit; its DSN.

    The project's own launcher makes it, and listens on no network, so it is started once more here.
    """
    made = EmbeddedPostgres(base / "data", settings=settings)
    with made:
        migrate_up(made.dsn)
        program = made.binaries.bin / "postgres"
    with (base / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 127.0.0.1/32 trust\n")
    port, owner = free_port(), os.stat(base / "data")
    account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.getuid() == 0 else {}
    command = [str(program), "-D", str(base / "data"), "-c", "listen_addresses=127.0.0.1", "-c", f"port={port}"]
    with (base / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-c", "unix_socket_directories="], stdout=log, stderr=log, cwd=base, **account
        )
    try:
        wait_for(port, process)
        dsn = f"postgresql://{ROLE}@127.0.0.1:{port}/{DATABASE}"
        wait_until_it_answers(dsn)
        yield dsn
    finally:
        process.send_signal(signal.SIGINT)  # its fast shutdown: clients are not waited for
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def redis(base: Path) -> Iterator[int]:
    """A Redis with its default settings; its port."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotRun("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(base)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def versions(dsn: str) -> dict[str, str]:
    """What is worth knowing of a Postgres and of our driver."""
    found = {"psycopg": psycopg.__version__}
    with psycopg.connect(dsn) as connection:
        for name in ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size"):
            row = connection.execute(f"SHOW {name}".encode()).fetchone()
            found[name] = str(row[0]) if row else "?"
    return found


def redis_version() -> str:
    """Its version, or that there is none."""
    program = shutil.which("redis-server")
    if program is None:
        return "none"
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return next((word[2:] for word in words if word.startswith("v=")), "?")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_it_answers(dsn: str) -> None:
    """A Postgres that listens may still be starting up."""
    end = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens there."""
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NotRun(f"{process.args!r} did not come up")
