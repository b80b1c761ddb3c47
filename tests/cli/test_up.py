"""`holdfast up` as a process of its own: the API and the workers under one supervisor."""

import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from holdfast.cli.specs import is_loopback
from holdfast.errors import ConfigurationError
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up
from holdfast.web.server import bind
from tests.cli.command import Running, eventually, holdfast, running
from tests.cli.test_worker import APP
from tests.support import Session, enqueue, job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(APP)
    return tmp_path


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for a local server, where the account that root drops to can reach it."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-up-", dir="/tmp"))
    base.chmod(0o755)
    yield base / "data"
    shutil.rmtree(base, ignore_errors=True)


def address(up: Running) -> str:
    """Where the API answers, once it does."""
    found = re.search(r"http://\S+", up.says("api  "))
    assert found is not None
    eventually(lambda: ask(f"{found[0]}/livez"), up.explain)
    return found[0]


def ask(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url, timeout=5)
    except httpx.TransportError:
        return None


def ready(url: str, status: int) -> Any:
    def look() -> Any:
        answer = ask(f"{url}/readyz?database")
        return answer if answer is not None and answer.status_code == status else None

    return look


def child_pid(up: Running, name: str) -> int:
    found = re.search(r"pid=(\d+)", up.says(f"child_started name={name} "))
    assert found is not None
    return int(found[1])


def test_it_serves_the_probes_and_runs_the_jobs(database: str, conn: Session, folder: Path) -> None:
    job_id = enqueue(conn, kind="add", args={"a": 2, "b": 2})
    with running("up", "tasks:hf", "--port", "0", cwd=folder, DATABASE_URL=database) as up:
        url = address(up)
        alive = httpx.get(f"{url}/livez")
        answer = eventually(ready(url, 200), up.explain)
        assert alive.json() == answer.json() == {"status": "pass"}
        assert alive.headers["cache-control"] == answer.headers["cache-control"] == "no-store"
        eventually(lambda: job(conn, job_id)["status"] == "succeeded", up.explain)
        up.signal(signal.SIGTERM)
        assert up.ends() == 0, up.explain()
        assert ask(f"{url}/livez") is None
    assert "tasks:hf with 3 kinds of job" in up.text
    assert "name=api" in up.text
    assert "code=0" in next(line for line in up.lines if "child_died name=api" in line)


def test_without_an_application_it_keeps_a_local_server_and_the_demo(data_dir: Path, tmp_path: Path) -> None:
    with running("up", "--port", "0", "--data-dir", str(data_dir), cwd=tmp_path) as up:
        url = address(up)
        eventually(ready(url, 200), up.explain)
        up.says("worker_started")
        wrong = httpx.post(f"{url}/api/jobs", json={"kind": "holdfast.demo.digest", "args": {}})
        assert (wrong.status_code, "path" in wrong.text) == (422, True), wrong.text
        up.signal(signal.SIGINT)
        assert up.ends() == 0, up.explain()
    assert f"local Postgres in {data_dir} (kept when this stops)" in up.text
    assert "none given, so the demo's; yours: holdfast up tasks:hf" in up.text
    assert "on queue demo" in up.text
    assert not (data_dir / "postmaster.pid").exists()


@pytest.mark.parametrize("all_of_it", [True, False], ids=["all its processes", "the postmaster"])
def test_its_local_server_is_started_again_when_it_is_killed(data_dir: Path, folder: Path, all_of_it: bool) -> None:
    server = EmbeddedPostgres(data_dir)
    with running("up", "tasks:hf", "--port", "0", "--data-dir", str(data_dir), cwd=folder) as up:
        eventually(ready(address(up), 200), up.explain)
        first = server.pid
        assert first is not None
        if all_of_it:
            server.kill()
        else:
            os.kill(first, signal.SIGKILL)
        up.says("local_server_started")
        assert server.pid not in {None, first}
        with psycopg.connect(server.dsn, autocommit=True, row_factory=dict_row) as session:
            job_id = enqueue(session, kind="add", args={"a": 2, "b": 2})
            eventually(lambda: job(session, job_id)["status"] == "succeeded", up.explain)
        up.signal(signal.SIGTERM)
        assert up.ends() == 0, up.explain()
    assert server.pid is None


def test_it_is_not_ready_while_the_database_is_away(data_dir: Path, folder: Path) -> None:
    with EmbeddedPostgres(data_dir, settings={"fsync": "off"}) as postgres:
        migrate_up(postgres.dsn)
        with running("up", "tasks:hf", "--port", "0", cwd=folder, DATABASE_URL=postgres.dsn) as up:
            url = address(up)
            eventually(ready(url, 200), up.explain)
            postgres.kill()
            away = eventually(ready(url, 503), up.explain)
            assert away.json() == {"status": "fail", "reason": "database_unavailable"}
            assert away.headers["cache-control"] == "no-store"
            assert httpx.get(f"{url}/livez").status_code == 200
            postgres.start()
            eventually(ready(url, 200), up.explain)
            up.signal(signal.SIGTERM)
            assert up.ends() == 0, up.explain()


def test_the_api_is_started_again_and_ends_with_its_supervisor(database: str, folder: Path) -> None:
    with running("up", "tasks:hf", "--port", "0", cwd=folder, DATABASE_URL=database) as up:
        url = address(up)
        os.kill(child_pid(up, "api"), signal.SIGKILL)
        up.says("child_died name=api")
        eventually(lambda: ask(f"{url}/livez"), up.explain)
        up.process.kill()
        up.ends()
        eventually(lambda: ask(f"{url}/livez") is None, up.explain)


def test_nobody_is_whom_a_header_of_their_own_says_without_trusted_proxies(database: str, folder: Path) -> None:
    with running("up", "tasks:hf", "--port", "0", cwd=folder, DATABASE_URL=database) as up:
        url = address(up)
        left = [
            int(
                httpx.get(f"{url}/", headers={"X-Forwarded-For": f"192.0.2.{n}"}).headers["ratelimit"].split("=")[1][:2]
            )
            for n in range(3)
        ]
    assert left == [99, 98, 97]


def test_a_port_in_use_is_said_before_anything_is_started(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = holdfast("up", "tasks:hf", "--port", port, cwd=folder, DATABASE_URL="postgresql://u@127.0.0.1:1/x")
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err == (
        f"error: the API cannot listen on 127.0.0.1 port {port}: address already in use; stop what uses it, or choose "
        "another port: --port or HOLDFAST_PORT (0 takes a free one)\n"
    )


def test_it_refuses_to_listen_beyond_this_machine_until_there_is_a_key(database: str, folder: Path) -> None:
    where = {"DATABASE_URL": database, "HOLDFAST_HOST": "0.0.0.0", "HOLDFAST_PORT": "0"}
    answer = holdfast("up", "tasks:hf", cwd=folder, **where)
    assert answer.code == 2
    assert answer.err.startswith("error: host is '0.0.0.0', which others may reach, and there is no API key yet")
    assert "holdfast keys create NAME" in answer.err
    assert "127.0.0.1" in answer.err
    token = holdfast("keys", "create", "operator", cwd=folder, DATABASE_URL=database).out.strip()
    with running("up", "tasks:hf", cwd=folder, **where) as up:
        url = address(up).replace("0.0.0.0", "127.0.0.1")
        eventually(ready(url, 200), up.explain)
        assert httpx.get(f"{url}/api/jobs").status_code == 401
        jobs = httpx.get(f"{url}/api/jobs", headers={"Authorization": f"Bearer {token}"})
        assert (jobs.status_code, jobs.json()) == (200, {"jobs": [], "next": None})


@pytest.mark.parametrize("host", ["::", "", "10.0.0.1", "example.org", "127.0.0.1.example.org", "::ffff:10.0.0.1"])
def test_a_host_that_others_reach_needs_keys(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "localhost", "::1"])
def test_a_host_of_this_machine_needs_none(host: str) -> None:
    assert is_loopback(host)


def test_an_address_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the API cannot listen on"):
        bind("192.0.2.1", 0)


def test_answers_do_not_wait_for_the_caller_s_acknowledgement() -> None:
    """asyncio sets TCP_NODELAY on connections whose listener says that it speaks TCP; else each answer takes 40 ms."""
    with bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
