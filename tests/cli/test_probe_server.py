"""The probe server of workers and monitors: its port asked while processes run, stand still, or are told to stop."""

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.cli.command import Running, eventually, holdfast, running
from tests.cli.test_up import address, child_pid, ready
from tests.cli.test_worker import APP
from tests.support import Session, enqueue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(APP)
    return tmp_path


def service(*command: str, folder: Path, database: str, **given: str):
    where = {"DATABASE_URL": database, "HOLDFAST_RUN_DIR": str(folder / "run"), "HOLDFAST_PROBE_PORT": "0"}
    return running(*command, cwd=folder, **{**where, **given})


def port_of(made: Running) -> str:
    found = re.search(r"probes answer on 127.0.0.1 port (\d+)", made.says("probes answer on"))
    assert found is not None
    return f"http://127.0.0.1:{found[1]}"


def status(url: str) -> int:
    return httpx.get(url, timeout=5).status_code


def test_a_worker_answers_each_probe_and_shows_its_processes_and_what_they_count(
    folder: Path, database: str, conn: Session
) -> None:
    with service("worker", "tasks:hf", folder=folder, database=database) as made:
        url = port_of(made)
        eventually(lambda: status(f"{url}/startupz") == 200, made.explain)
        for path in ("/livez", "/readyz"):
            answer = httpx.get(f"{url}{path}")
            assert (answer.status_code, answer.json()) == (200, {"status": "pass"})
            assert answer.headers["cache-control"] == "no-store"
            assert httpx.head(f"{url}{path}").content == b""
        shown = httpx.get(f"{url}/metrics").text
        assert 'holdfast_supervised_processes{process="worker-1"} 1.0' in shown
        assert 'holdfast_supervised_starts_total{process="monitors"} 1.0' in shown
        enqueue(conn, kind="add", args={"a": 1, "b": 2})
        claimed = 'holdfast_jobs_claimed_total{kind="add",queue="default"} 1.0'
        eventually(lambda: claimed in httpx.get(f"{url}/metrics").text, made.explain)
        assert 'holdfast_claim_seconds_bucket{le="+Inf"}' in httpx.get(f"{url}/metrics").text
        assert status(f"{url}/api/health") == 404
        assert httpx.post(f"{url}/livez").status_code == 405
        assert holdfast("probe", f"{url}/livez", cwd=folder).code == 0


@pytest.mark.full
def test_a_process_that_stands_still_fails_liveness_until_it_goes_on(folder: Path, database: str) -> None:
    with service("monitor", "stale", folder=folder, database=database) as made:
        url = port_of(made)
        eventually(lambda: status(f"{url}/startupz") == 200, made.explain)
        os.kill(child_pid(made, "monitors"), signal.SIGSTOP)
        eventually(lambda: status(f"{url}/livez") == 503, made.explain, within=100)
        assert httpx.get(f"{url}/livez").json() == {"status": "fail", "reason": "stuck"}
        os.kill(child_pid(made, "monitors"), signal.SIGCONT)
        eventually(lambda: status(f"{url}/livez") == 200, made.explain)


def test_a_service_that_drains_is_not_ready_and_alive(folder: Path, database: str) -> None:
    with service("worker", "tasks:hf", folder=folder, database=database, HOLDFAST_DRAIN_TIMEOUT="30") as made:
        url = port_of(made)
        eventually(lambda: status(f"{url}/readyz") == 200, made.explain)
        worker = child_pid(made, "worker-1")
        os.kill(worker, signal.SIGSTOP)  # so that its drain takes a while
        made.process.terminate()
        eventually(lambda: status(f"{url}/readyz") == 503, made.explain)
        assert (status(f"{url}/livez"), httpx.get(f"{url}/readyz").json()["reason"]) == (200, "draining")
        os.kill(worker, signal.SIGCONT)


def test_what_others_can_reach_shows_no_metrics_unless_told(folder: Path, database: str) -> None:
    for given, code in (({}, 404), ({"HOLDFAST_PROBE_METRICS": "true"}, 200)):
        with service(
            "monitor", "stale", folder=folder, database=database, HOLDFAST_PROBE_HOST="0.0.0.0", **given
        ) as made:
            found = re.search(r"probes answer on 0.0.0.0 port (\d+)", made.says("probes answer on"))
            assert found is not None
            assert status(f"http://127.0.0.1:{found[1]}/metrics") == code


def test_a_port_that_is_taken_is_told_before_anything_starts(folder: Path, database: str) -> None:
    with service("monitor", "stale", folder=folder, database=database) as made:
        taken = port_of(made).rpartition(":")[2]
        answer = holdfast("monitor", "stale", cwd=folder, DATABASE_URL=database, HOLDFAST_PROBE_PORT=taken)
    assert answer.code == 2
    assert f"the probe server cannot listen on 127.0.0.1 port {taken}" in answer.err
    assert "HOLDFAST_PROBE_PORT" in answer.err


def test_an_api_that_is_told_to_stop_answers_for_a_while_and_is_not_ready(folder: Path, database: str) -> None:
    given = {"HOLDFAST_SHUTDOWN_DELAY": "20", "HOLDFAST_PORT": "0"}
    with service("api", folder=folder, database=database, **given) as made:
        url = address(made)
        eventually(ready(url, 200), made.explain)
        made.process.terminate()
        answer = eventually(ready(url, 503), made.explain)
        assert answer.json() == {"status": "fail", "reason": "draining"}
        assert (status(f"{url}/livez"), status(f"{url}/api/keys/self")) == (200, 200)
        made.process.terminate()  # whoever asks twice does not want to wait
        eventually(lambda: made.process.poll() is not None, made.explain)
