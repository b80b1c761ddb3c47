"""PgBouncer in transaction mode in front of the test server, for the tests that must pass through it."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import conninfo

from holdfast.postgres.dsn import POOLER_PORT

#: Set for a run of tests whose databases are to be reached through the pooler.
VARIABLE = "TESTS_THROUGH_A_POOLER"

SETTINGS = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
unix_socket_dir = {folder}
listen_port = {listen}
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 200
ignore_startup_parameters = {ignored}
server_idle_timeout = 1
logfile = {folder}/log
pidfile = {folder}/pid
"""


@contextlib.contextmanager
def pooled(dsn: str, *, port: int = int(POOLER_PORT), ignored: str = "extra_float_digits") -> Iterator[str]:
    """The same database through a pooler, by default on the port by which Holdfast knows one.

    `ignored`: the session settings that the pooler lets pass, and forgets; it refuses others.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "pgbouncer is missing: run scripts/install-system-packages"
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    folder.chmod(0o755)
    parts = conninfo.conninfo_to_dict(dsn)
    text = SETTINGS.format(
        folder=folder, listen=port, ignored=ignored, **{name: parts[name] for name in ("host", "port", "user")}
    )
    (folder / "pgbouncer.ini").write_text(text)
    account = _account_of(str(parts["host"]))
    shutil.chown(folder, account.pw_uid, account.pw_gid)
    command = [program, str(folder / "pgbouncer.ini")]
    user, group = (account.pw_uid, account.pw_gid) if os.getuid() == 0 else (None, None)
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, user=user, group=group)
    through = conninfo.make_conninfo(dsn, host=str(folder), port=port)
    try:
        _wait(through, process)
        yield through
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _account_of(path: str) -> pwd.struct_passwd:
    """The server lets in only the account that owns its socket's folder."""
    return pwd.getpwuid(os.stat(path).st_uid)


def _wait(dsn: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(dsn, prepare_threshold=None).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                raise
        time.sleep(0.05)
