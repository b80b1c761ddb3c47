"""The commands that people need at a PowerShell prompt, in a process without what Windows lacks.

Not Windows, but what its Python has not: the modules fcntl, pwd, grp, resource, pty, termios, and fork with its kin.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.postgres.migrate import load
from tests.cli.command import environment
from tests.supabase.management_server import REF, TOKEN, ManagementServer, management_server
from tests.support import database_copy

#: The event loop is the one of Unix, which itself needs socket pairs and some of the signals.
WITHOUT = """
import asyncio, functools, os, select, signal, socket, subprocess, sys
socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)  # the event loop's own
for name in ("fcntl", "pwd", "grp", "resource", "pty", "tty", "termios", "syslog"):
    sys.modules[name] = None
for module, names in (
    (os, ("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "setpgid", "killpg", "setsid", "getpgrp",
          "chown", "waitid", "WNOHANG", "sched_getaffinity")),
    (socket, ("AF_UNIX",)),
    (asyncio, ("open_unix_connection", "start_unix_server")),
    (select, ("poll",)),
    (signal, ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "setitimer")),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def refuse(*_):
    raise NotImplementedError


asyncio.SelectorEventLoop.add_signal_handler = refuse
"""


@pytest.fixture
def api_server(bare: str) -> Iterator[ManagementServer]:
    with database_copy(bare, "template0") as dsn, management_server(dsn) as running:
        yield running


def test_what_windows_reads_in_its_own_code_page_is_ascii() -> None:
    """PowerShell 5.1 reads a script, and the clipboard a text, in whatever code page the machine has."""
    root = Path(__file__).resolve().parents[2]
    (root / "run.ps1").read_text(encoding="ascii")
    for migration in load():
        assert migration.text.isascii(), migration.name


def without(code: str, cwd: Path, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        cwd=cwd,
        env=environment(**given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def command(*args: str) -> str:
    return f"sys.argv = ['holdfast', *{args!r}]\nfrom holdfast.cli.main import main\nmain()\n"


@pytest.mark.parametrize("module", ["holdfast.cli.migrate", "holdfast.cli.doctor", "holdfast.cli.main", "holdfast"])
def test_the_module_imports(module: str, tmp_path: Path) -> None:
    done = without(f"import {module}\nfrom holdfast import Holdfast\nprint('imported')", tmp_path)
    assert (done.returncode, done.stdout) == (0, "imported\n"), done.stderr


def test_migrate_gets_through_over_https(api_server: ManagementServer, tmp_path: Path) -> None:
    given = {
        "SUPABASE_PROJECT_REF": REF,
        "SUPABASE_ACCESS_TOKEN": TOKEN,
        "HOLDFAST_SUPABASE_API_URL": api_server.address,
    }
    up = without(command("migrate", "up"), tmp_path, **given)
    assert up.returncode == 0, up.stderr
    assert up.stdout.count("applied ") == len(load())
    status = without(command("migrate", "status"), tmp_path, **given)
    assert status.returncode == 0, status.stderr


@pytest.mark.parametrize("name", ["verify", "doctor"])
def test_verify_looks_and_says_what_it_found(name: str, database: str, tmp_path: Path) -> None:
    done = without(command(name), tmp_path, DATABASE_URL=f"{database} connect_timeout=5")
    assert "Traceback" not in done.stderr, done.stderr
    assert "pass  database" in done.stdout
    assert "pass  migrations" in done.stdout
    assert done.returncode == 3, "nothing runs here, so the API cannot be reached"


@pytest.mark.parametrize(
    "args", [("migrate", "up"), ("migrate", "status"), ("doctor",), ("jobs", "list")], ids=" ".join
)
def test_without_a_database_it_says_which_to_name(args: tuple[str, ...], tmp_path: Path) -> None:
    done = without(command(*args), tmp_path)
    said = "set DATABASE_URL to a database that runs elsewhere, or SUPABASE_URL to a project's address"
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_what_windows_cannot_do_says_so(tmp_path: Path) -> None:
    done = without(command("up"), tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
