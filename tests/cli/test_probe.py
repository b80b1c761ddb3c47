"""`holdfast probe` against services that really run, are frozen, or are not there."""

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import Running, eventually, holdfast, running
from tests.cli.test_up import child_pid
from tests.cli.test_worker import APP
from tests.support import Session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(APP)
    return tmp_path


@contextmanager
def worker(folder: Path, database: str) -> Iterator[Running]:
    with running("worker", "tasks:hf", cwd=folder, DATABASE_URL=database, HOLDFAST_RUN_DIR=str(folder / "run")) as made:
        made.says("worker_started")
        yield made


def probe(folder: Path, *args: str) -> tuple[int, str]:
    answer = holdfast("probe", *args, cwd=folder, HOLDFAST_RUN_DIR=str(folder / "run"))
    return answer.code, answer.out


def test_a_worker_that_runs_passes(database: str, folder: Path) -> None:
    with worker(folder, database) as service:
        code, out = probe(folder)
        pids = [child_pid(service, name) for name in ("worker-1", "monitors")]
    processes = f"worker-1 (pid {pids[0]}), monitors (pid {pids[1]})"
    assert (code, out) == (0, f"pass  worker-{service.process.pid}: {processes}\n")


def test_nothing_runs_here_is_an_exit_code_of_its_own(folder: Path) -> None:
    code, out = probe(folder)
    assert code == 3
    assert out.startswith("no service of yours runs on this machine (looked in ")


def test_a_service_that_was_killed_leaves_nothing_that_passes(database: str, folder: Path) -> None:
    with worker(folder, database) as service:
        service.process.kill()
        service.ends()
        assert probe(folder)[0] == 3


def test_a_supervisor_that_does_not_answer_fails(database: str, folder: Path) -> None:
    with worker(folder, database) as service:
        service.signal(signal.SIGSTOP)
        code, out = probe(folder, "--timeout", "0.3")
        service.signal(signal.SIGCONT)
    assert (code, out) == (1, f"fail  worker-{service.process.pid}: it does not answer\n")


def test_an_outage_of_the_database_fails_nothing(database: str, conn: Session, folder: Path) -> None:
    with worker(folder, database) as service:
        name = re.search(r"(holdfast_test_\d+)", database)
        assert name is not None
        with conn.transaction():
            conn.execute("LOCK holdfast.workers, holdfast.jobs IN ACCESS EXCLUSIVE MODE")
            service.says("ledger_lost")
            assert probe(folder)[0] == 0


def test_programs_get_json(database: str, folder: Path) -> None:
    with worker(folder, database):
        (service,) = json.loads(probe(folder, "--json")[1])["services"]
    assert service["answer"]["problems"] == []
    progress = {process["name"]: process["progress_ago"] for process in service["answer"]["processes"]}
    assert set(progress) == {"worker-1", "monitors"}
    assert max(progress.values()) < 60


def test_a_web_server_can_be_asked_instead(database: str, folder: Path) -> None:
    with running("up", "tasks:hf", "--port", "0", cwd=folder, DATABASE_URL=database) as up:
        found = re.search(r"http://\S+", up.says("api  "))
        assert found is not None
        eventually(lambda: probe(folder, f"{found[0]}/livez")[0] == 0, up.explain)
        assert probe(folder, f"{found[0]}/nothing") == (1, f"fail  {found[0]}/nothing: status 404\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/livez"
        assert probe(folder, url, "--timeout", "0.2") == (3, f"fail  {url}: no answer: TimeoutError\n")


@pytest.mark.parametrize("url", ["127.0.0.1:8484", "https://here/livez", "file:///etc/passwd"])
def test_an_address_that_cannot_be_probed_is_refused(folder: Path, url: str) -> None:
    answer = holdfast("probe", url, cwd=folder)
    assert answer.code == 2
    assert "it looks like http://127.0.0.1:8484/livez" in answer.err


def test_a_service_without_a_place_for_its_socket_says_so_and_runs(database: str, folder: Path) -> None:
    deep = str(folder / ("x" * 120))
    with running("worker", "tasks:hf", cwd=folder, DATABASE_URL=database, HOLDFAST_RUN_DIR=deep) as service:
        service.says("too long; set HOLDFAST_RUN_DIR")
        service.says("worker_started")


def test_a_folder_of_somebody_else_is_not_used(folder: Path) -> None:
    (folder / "run").mkdir()
    os.chmod(folder / "run", 0o777)
    answer = holdfast("probe", cwd=folder, HOLDFAST_RUN_DIR=str(folder / "run"))
    assert answer.code == 2
    assert "others may write to it" in answer.err
