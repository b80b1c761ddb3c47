"""Postgres servers that are reached over TCP, each at an address of its own, and file systems of their own."""

import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from holdfast.postgres.embedded import DATABASE, ROLE, EmbeddedPostgres
from holdfast.postgres.server_account import make_private, run_as, server_account

#: What a primary needs for a standby, beside the settings of the other chaos tests.
SETTINGS = {
    "fsync": "on",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "wal_level": "replica",
    "hot_standby": "on",
    "wal_receiver_timeout": "5s",
}


class TcpPostgres(EmbeddedPostgres):
    """One that listens at `addresses`, port 5432, too. `standby`: its name in synchronous_standby_names."""

    def __init__(self, data_dir: Path, addresses: str, settings: dict[str, str]) -> None:
        super().__init__(data_dir, settings=settings)
        self.addresses = addresses

    def _options(self) -> list[str]:
        return [*super()._options(), f"listen_addresses={self.addresses}"]

    @property
    def tcp(self) -> str:
        """Its connection string over the network, to the first of its addresses."""
        return f"postgresql://{ROLE}@{self.addresses.partition(',')[0]}/{DATABASE}"

    def open_to(self, network: str) -> None:
        """Let everybody in from there, replicas as well. Takes effect at the next start or reload."""
        with (self.data_dir / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} trust\nhost replication all {network} trust\n")

    def promote(self) -> None:
        """Make a standby the primary; returns when it takes writes."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            (row,) = conn.execute("SELECT pg_promote(true, 30)").fetchall()
            assert row[0], "the standby was not promoted"


def loopback() -> str:
    """An address of this machine that nobody else listens on, in all likelihood."""
    dice = random.SystemRandom()
    return f"127.{dice.randrange(2, 250)}.{dice.randrange(1, 250)}.{dice.randrange(1, 250)}"


def standby_of(primary: TcpPostgres, data_dir: Path, *, name: str) -> TcpPostgres:
    """A running streaming replica of a running primary, known there by this name."""
    made = TcpPostgres(data_dir, loopback(), dict(SETTINGS))
    source = f"host={primary.addresses} port=5432 user={ROLE} application_name={name}"
    command = [str(primary.binaries.bin / "pg_basebackup"), "-D", str(data_dir), "-d", source, "-R", "-X", "stream",
               "--checkpoint=fast"]  # fmt: skip
    account = server_account()
    make_private(data_dir, account)
    done = run_as(account, command)
    if done.returncode != 0:
        raise AssertionError(f"no base backup: {done.stdout}")
    made.start()
    return made


@contextlib.contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size at `folder`; needs root."""
    folder.mkdir(parents=True)
    options = f"size={megabytes}m,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "holdfast-chaos", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
