"""SQS-compatible servers for the contract suite, each from the package index, in an environment of its own.

ministack is the one that Holdfast itself starts (`local.py`). moto is quadratic: fewer than 100 messages a queue.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

INSTALL_DEADLINE, START = 600.0, 60.0


@dataclass(frozen=True)
class ServerPackage:
    """What to install, and how to start it. `{port}` stands for its port in command and environment."""

    requirement: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    least_python: tuple[int, int] = (3, 11)

    @property
    def folder(self) -> Path:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        name, _, version = self.requirement.partition("==")
        return Path(base) / "holdfast" / f"{name.partition('[')[0]}-{version}"


MOTO = ServerPackage("moto[server]==5.2.5", ("bin/moto_server", "-H", "127.0.0.1", "-p", "{port}"))

#: The most faithful of them, and the largest. Its own default server would listen beyond this machine.
LOCALEMU = ServerPackage(
    "localemu[runtime]==1.3.2",
    ("bin/python", "-m", "localemu.runtime.main"),
    {
        "GATEWAY_SERVER": "hypercorn", "GATEWAY_LISTEN": "127.0.0.1:{port}", "SERVICES": "sqs", "DISABLE_EVENTS": "1",
        "EAGER_SERVICE_LOADING": "1", "SKIP_SSL_CERT_DOWNLOAD": "1", "DNS_ADDRESS": "0",
        "SQS_ENDPOINT_STRATEGY": "path",
    },
    least_python=(3, 12),
)  # fmt: skip


@contextmanager
def running(package: ServerPackage) -> Iterator[str]:
    """The server on a free port of this machine; its endpoint."""
    _install(package)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    program, *arguments = [part.replace("{port}", port) for part in package.command]
    environment = {name: value.replace("{port}", port) for name, value in package.environment.items()}
    process = subprocess.Popen(
        [str(package.folder / program), *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(endpoint, process)
        yield endpoint
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _install(package: ServerPackage) -> None:
    """Once for all runs; who comes second waits. A folder without the mark was begun and not ended."""
    folder, mark = package.folder, package.folder / ".holdfast-done"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in ([_python(package.least_python), "-m", "venv", str(folder)], [*pip, package.requirement]):
            subprocess.run(command, check=True, timeout=INSTALL_DEADLINE)
        mark.touch()


def _python(least: tuple[int, int]) -> str:
    """A Python of at least that version that runs here: this one, or another on the PATH or of pyenv's."""
    names = [f"python3.{minor}" for minor in range(19, least[1] - 1, -1)]
    others = sorted((Path.home() / ".pyenv" / "versions").glob("3.1[2-9]*/bin/python"), reverse=True)
    for found in [sys.executable, *filter(None, map(shutil.which, names)), *map(str, others)]:
        check = [found, "-c", f"import sys, venv; sys.exit(sys.version_info < {least})"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return found
    raise AssertionError(f"no Python {least[0]}.{least[1]} or newer is here, which this server needs")


def _wait_until_it_answers(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{process.args!r} does not answer, exit code {process.poll()}")
