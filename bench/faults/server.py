"""A Postgres of one cell, on a port of its own, that can be stopped, killed and started again."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import psycopg

from bench.servers import free_port, wait_for, wait_until_it_answers
from holdfast.postgres.embedded import DATABASE, ROLE, EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up

SETTINGS = {"shared_buffers": "64MB", "max_connections": "100"}
SCHEMA = """
CREATE SCHEMA faults;
CREATE TABLE faults.notes (job text NOT NULL, run uuid NOT NULL, pid int NOT NULL, what text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (run, what));
CREATE INDEX ON faults.notes (job);
"""

#: Cells run in threads, and the launcher is made for one of them.
MAKING = threading.Lock()


class Server:
    """Made, migrated and started by `with`; everything of it ends there."""

    def __init__(self, folder: Path, *, migrated: bool) -> None:
        self._folder = folder
        self._migrated = migrated
        self._port = free_port()
        self.dsn = f"postgresql://{ROLE}@127.0.0.1:{self._port}/{DATABASE}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        made = EmbeddedPostgres(self._folder / "data", settings=SETTINGS)
        with MAKING, made:
            if self._migrated:
                migrate_up(made.dsn)
            self._program = made.binaries.bin / "postgres"
        with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 127.0.0.1/32 trust\n")
        self.start()
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        data = self._folder / "data"
        owner = data.stat()
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.getuid() == 0 else {}
        command = [str(self._program), "-D", str(data), "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", f"port={self._port}", "-c", "unix_socket_directories="]
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **account)
        wait_for(self._port, self._process)
        wait_until_it_answers(self.dsn)

    def stop(self) -> None:
        """Its fast shutdown, as `pg_ctl stop` does it: clients are not waited for."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its processes."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait(20)
        time.sleep(0.1)  # its children let go of the memory that they share
