"""The probe: a Unix socket on which a service without a web server tells how it is, for `holdfast probe`.

Whoever connects is told one JSON object. The event loop that supervises the processes answers, so a loop that is stuck
does not answer at all, and who asks gives up. Nothing here touches the database.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.core.liveness import ProcessState, find_stuck
from holdfast.errors import ConfigurationError

_log = logging.getLogger("holdfast")

MOST = 65_536


@dataclass(frozen=True)
class Told:
    """What a service says of itself: its processes, what is wrong with them, and its address on HTTP, if it has one."""

    name: str
    pid: int
    address: str | None
    problems: list[str]
    processes: list[ProcessState]


def run_dir(chosen: Path | None = None) -> Path:
    """The folder of the sockets, which only its user may enter.

    Raises `ConfigurationError` where it cannot be had, or somebody else made it.
    """
    if not hasattr(os, "getuid"):
        raise ConfigurationError("services run on Linux or macOS; there is none on this machine to be asked")
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = chosen or (Path(base) / "holdfast" if base else Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be used for the probe's socket: {error.strerror}; set HOLDFAST_RUN_DIR"
        ) from error
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigurationError(
            f"{folder} belongs to somebody else, or others may write to it; remove it, or set HOLDFAST_RUN_DIR"
        )
    return folder


@contextlib.asynccontextmanager
async def answering(
    folder: Path, name: str, processes: Callable[[], list[ProcessState]], address: str | None = None
) -> AsyncIterator[None]:
    """Answer on a socket called after this service and process, while the block runs.

    Where there can be none the block runs all the same.
    """
    path = folder / f"{name.replace(' ', '-')}-{os.getpid()}.sock"

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = processes()
        told = Told(name, os.getpid(), address, find_stuck(found), found)
        with contextlib.suppress(OSError):
            writer.write(json.dumps(asdict(told)).encode())
            await writer.drain()
            writer.close()

    path.unlink(missing_ok=True)
    try:
        server = await asyncio.start_unix_server(tell, path)
    except OSError as error:
        _log.warning("no answers to holdfast probe: %s: %s; set HOLDFAST_RUN_DIR", path, error)
        yield
        return
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


def ask_all(folder: Path, timeout: float, name: str | None = None) -> Iterator[tuple[str, Told | None]]:
    """Each service that has a socket here: its label, and what it says; None where it does not answer as it should."""
    for path in sorted(folder.glob(f"{name or '*'}-*.sock")):
        try:
            told = ask(path, timeout)
        except (TimeoutError, ValueError, TypeError, OSError):
            yield path.stem, None
        else:
            if told is not None:
                yield path.stem, told


def ask(path: Path, timeout: float) -> Told | None:
    """What the service behind a socket says; None where nobody is behind it. Raises `TimeoutError`."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout)
        try:
            link.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        heard = b""
        while len(heard) < MOST:
            piece = link.recv(MOST)
            if not piece:
                break
            heard += piece
    told = json.loads(heard)
    processes = [ProcessState(**each) for each in told.pop("processes")]
    return Told(**told, processes=processes)
