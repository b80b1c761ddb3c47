"""The processes of this machine with their command lines: from /proc where there is one, else from ps."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path


def live_processes() -> Iterator[tuple[int, str]]:
    """Process ids with their command lines, zombies left out."""
    source: Callable[[], Iterator[tuple[int, str]]] = _from_proc if Path("/proc/self/stat").exists() else _from_ps
    return source()


def _from_proc() -> Iterator[tuple[int, str]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                command = Path("/proc", entry, "cmdline").read_bytes()
                state = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()[0]
                if state not in (b"Z", b"X"):
                    yield int(entry), command.replace(b"\0", b" ").decode(errors="replace")


def _from_ps() -> Iterator[tuple[int, str]]:
    result = subprocess.run(["ps", "-axww", "-o", "pid=,stat=,command="], capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        pid, state, command = [*line.split(None, 2), "", "", ""][:3]
        if pid.isdigit() and not state.startswith("Z"):
            yield int(pid), command


def is_postgres(command: str) -> bool:
    """Either the program by its path, which may hold spaces, or a child by its title `postgres: ...`."""
    return command.startswith("postgres: ") or "/postgres -D " in command
