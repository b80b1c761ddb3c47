"""A local SQS server for `holdfast up --sqs`: from the package index, in an environment of its own."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.child import VARIABLE
from holdfast.cli.output import show
from holdfast.errors import ConfigurationError
from holdfast.services.supervisor import ChildSpec

#: The package, at the version that Holdfast was tried with, and its command.
PACKAGE, COMMAND = "ministack==1.5.33", "ministack"
INSTALL_DEADLINE = 300.0
BELLS, DEAD_BELLS = "holdfast-bells", "holdfast-bells-dlq"
ACCOUNT = "000000000000"
#: Written last into the environment: one without it was begun and not ended.
_DONE = ".holdfast-done"


@dataclass(frozen=True)
class LocalSqsPlan:
    """What the process is told that runs the server. `link` is its supervisor's end."""

    program: str
    port: int
    host: str = "127.0.0.1"
    link: int | None = None

    @property
    def url(self) -> str:
        """The queue for bells."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}/{BELLS}"


def prepare(folder: Path | None = None, *, port: int = 0) -> LocalSqsPlan:
    """Install the server where it is not yet, and choose a port. Raises `ConfigurationError` with the way out."""
    folder = folder or _default_folder()
    program = folder / "bin" / COMMAND
    with _alone(folder):
        if not (folder / _DONE).exists():
            print(f"installing a local SQS server ({PACKAGE}) in {folder}, this once", file=sys.stderr)
            _install(folder)
    if port == 0:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    return LocalSqsPlan(str(program), port)


def local_sqs(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 4566,
    install: Annotated[bool, typer.Option("--install", help="Only install it, and end.")] = False,
) -> None:
    """Run a local SQS server with a queue for bells and its dead-letter queue, for development.

    It keeps nothing when it ends, and asks nobody who they are: never let others reach it.
    """
    plan = replace(prepare(port=port), host=host)
    if install:
        return
    _require_free(host, plan.port)
    from holdfast.cli.local_sqs_child import run

    show(f"bells: {plan.url}")
    raise typer.Exit(run(plan))


def _require_free(host: str, port: int) -> None:
    """The server itself would end without a word."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise ConfigurationError(
            f"the local SQS server cannot listen on {host} port {port}: {why}; give another (--host, --port)"
        ) from error


def local_sqs_spec(plan: LocalSqsPlan) -> ChildSpec:
    """The server's process, and its queues: made anew whenever it is started."""

    def start(_: UUID, link: int) -> tuple[Sequence[str], Mapping[str, str]]:
        environment = {**os.environ, VARIABLE: json.dumps(asdict(replace(plan, link=link)))}
        return ("-m", "holdfast.cli.local_sqs_child"), environment

    return ChildSpec("sqs", start, is_worker=False, tells_progress=False)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Who comes second waits until the first has installed it."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "holdfast" / PACKAGE.replace("==", "-")


def _install(folder: Path) -> None:
    """All or nothing: what was begun and not ended is begun anew."""
    shutil.rmtree(folder, ignore_errors=True)
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_DEADLINE)
        (folder / _DONE).touch()
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise ConfigurationError(
            f"the local SQS server cannot be installed: {' '.join(last)}; run without --sqs, or set"
            " HOLDFAST_SQS_QUEUE_URL to a queue of your own"
        ) from error
