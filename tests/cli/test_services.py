"""Each service as a process of its own, as deploy/compose.yaml starts it, and all of them while parts of it fail."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from psycopg.types.json import Jsonb

from tests.cli.command import Running, eventually, holdfast, running
from tests.cli.test_doctor import finding, verdicts, verify
from tests.cli.test_up import address, child_pid, ready
from tests.notify.slack_server import SlackServer
from tests.sqs.local import LocalSqs
from tests.support import Session, advance, claim_one, enqueue, job, mark_gone, register, rows, seconds

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
APP = """
from holdfast import Holdfast

hf = Holdfast()


@hf.job()
async def report(fails: bool = False) -> str:
    if fails:
        raise ValueError("no")
    return "done"
"""
QUICK = {"HOLDFAST_BEAT_INTERVAL": "1", "HOLDFAST_LOST_AFTER": "5", "HOLDFAST_SWEEP_INTERVAL": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(APP)
    return tmp_path


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    made = SlackServer()
    yield made
    made.close()


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_compose_file_fits_the_compose_specification() -> None:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_service_of_ours_is_health_checked_by_the_probe() -> None:
    for name, service in services().items():
        if "holdfast" not in service.get("image", "") or name == "migrate":
            continue
        assert service["healthcheck"]["test"][:3] == ["CMD", "holdfast", "probe"], name


@pytest.mark.parametrize("name", ["worker", "stale-job-monitor", "dlq-monitor", "api"])
def test_the_command_of_each_service_starts_and_is_found_alive(
    name: str, database: str, folder: Path, sqs: LocalSqs
) -> None:
    where = {
        "DATABASE_URL": database, "HOLDFAST_SQS_QUEUE_URL": sqs.url("holdfast-bells"), "HOLDFAST_PORT": "0",
        "HOLDFAST_RUN_DIR": str(folder / "run"), "HOLDFAST_MONITORS": "false",
    }  # fmt: skip
    with running(*services()[name]["command"], cwd=folder, **where) as service:
        service.says("child_started")
        label = f"{name}-{service.process.pid}"
        probed = eventually(lambda: alive(folder, label), service.explain)
        assert probed.startswith(f"pass  {label}: ")
        service.signal(signal.SIGTERM)
        assert service.ends() == 0, service.explain()


def alive(folder: Path, label: str) -> str | None:
    answer = holdfast("probe", cwd=folder, HOLDFAST_RUN_DIR=str(folder / "run"))
    return answer.out if answer.code == 0 and label in answer.out else None


def test_the_stale_job_monitor_alone_takes_jobs_back_and_logs_each_sweep(
    database: str, conn: Session, folder: Path, sqs: LocalSqs
) -> None:
    where = {"DATABASE_URL": database, "HOLDFAST_SQS_QUEUE_URL": sqs.url("holdfast-bells"), **QUICK}
    worker = register(conn)
    enqueue(conn)
    run = claim_one(conn, worker)
    mark_gone(conn, worker)
    with running("monitor", "stale", cwd=folder, **where) as monitor:
        eventually(lambda: job(conn, run["id"])["status"] == "queued", monitor.explain)
        assert "rescued 1, gone 0, held 0, locked 0" in monitor.says("swept monitor=rescue_stale_jobs result=rescued 1")
        monitor.says("result=rescued 0")


def test_an_alerter_killed_between_the_post_and_its_record_leaves_an_alert_that_is_told_again(
    database: str, conn: Session, folder: Path, slack: SlackServer
) -> None:
    change = {
        "id": str(uuid4()), "action": "open", "kind": "dead_letters_counted", "key": "q", "title": "2 in q",
        "arrivals": 1, "content": {"title": "2 in q"},
    }  # fmt: skip
    conn.execute("SELECT holdfast.record_incidents(%s, ARRAY['slack'])", (Jsonb([change]),))
    where = {"DATABASE_URL": database, "SLACK_WEBHOOK_URL": slack.webhook}
    slack.takes_without_an_answer()
    with running("monitor", "dlq", cwd=folder, **where) as monitor:
        eventually(lambda: slack.titles == ["2 in q"], monitor.explain)
        os.killpg(child_pid(monitor, "monitors"), signal.SIGKILL)
        slack.answers(200)
        advance(conn, seconds(61))
        eventually(lambda: slack.titles == ["2 in q"] * 2, monitor.explain)
        left = "SELECT FROM holdfast.notifications WHERE delivered_at IS NULL"
        eventually(lambda: not rows(conn, left), monitor.explain)
        assert "secret-of-slack" not in monitor.explain()


def test_a_start_tells_which_service_runs_with_older_settings(database: str, folder: Path) -> None:
    where = {"DATABASE_URL": database, "HOLDFAST_MONITORS": "false"}
    with running("worker", "tasks", cwd=folder, **where) as worker:
        worker.says("worker_started")
        (folder / ".env").write_text("HOLDFAST_SLOTS=11\n")
        with running("monitor", "stale", cwd=folder, **where) as monitor:
            told = monitor.says("  restart  ")
    assert f"worker (pid {worker.process.pid}) started " in told
    assert "before the settings of " in told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"HOLDFAST_SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/q.fifo"}, "names the FIFO queue 'q.fifo'"),
        ({"SLACK_WEBHOOK_URL": "https://hooks.slack.com"}, "SLACK_WEBHOOK_URL lacks its path"),
        ({"HOLDFAST_DLQ_URLS": "orders"}, "HOLDFAST_DLQ_URLS is 'orders', which is no queue's URL"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_with_the_reason(
    folder: Path, given: dict[str, str], said: str
) -> None:
    answer = holdfast("monitor", "dlq", cwd=folder, DATABASE_URL="postgresql://u@127.0.0.1:1/x", **given)
    assert answer.code == 2
    assert said in answer.err


def test_a_local_sqs_server_says_why_it_cannot_start_and_that_it_ended(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = holdfast("local-sqs", "--port", port, cwd=folder)
    assert answer.code == 2
    assert "address already in use; give another (--host, --port)" in " ".join(answer.err.split())
    with running("local-sqs", "--port", "0", cwd=folder) as server:
        server.says("the local SQS server answers")
        (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        server.says("the local SQS server ended by itself, with exit code -9")
        assert server.ends() == 1


def test_a_queue_of_the_team_s_own_is_watched_and_never_rung(database: str, folder: Path, sqs: LocalSqs) -> None:
    where = {"DATABASE_URL": database, "SQS_QUEUE_URL": sqs.url("holdfast-bells-dlq")}
    with running("monitor", "dlq", cwd=folder, **where) as monitor:
        monitor.says("the dead letters of holdfast-bells-dlq")
    tagged = {"DATABASE_URL": database, "SQS_QUEUE_URL": sqs.url("holdfast-bells")}
    with running("monitor", "stale", cwd=folder, **tagged) as monitor:
        assert "queue holdfast-bells is rung for idle workers" in monitor.says("sqs  ")


def swept(folder: Path, where: dict[str, str]) -> bool:
    found = verdicts(verify(folder, "--json", **where))
    return {found[id] for id in found if id.startswith("monitors.")} == {"pass"}


def freeze(up: Running, *names: str) -> None:
    for name in names:
        os.killpg(child_pid(up, name), signal.SIGSTOP)


def thaw(up: Running, *names: str) -> None:
    for name in names:
        os.killpg(child_pid(up, name), signal.SIGCONT)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_while_sqs_slack_and_the_workers_fail_one_after_the_other_each_is_said(
    database: str, conn: Session, folder: Path, slack: SlackServer
) -> None:
    where = {
        "DATABASE_URL": database,
        "SLACK_WEBHOOK_URL": slack.webhook,
        "HOLDFAST_RUN_DIR": str(folder / "run"),
        **QUICK,
    }
    with ExitStack() as stack:
        command = ("up", "tasks", "--sqs", "--port", "0")
        up = stack.enter_context(running(*command, cwd=folder, HOLDFAST_STALE_AFTER="60", **where))
        url = address(up)
        eventually(ready(url, 200), up.explain)
        eventually(lambda: swept(folder, where), up.explain)

        def health() -> Any:
            return httpx.get(f"{url}/api/health").json()

        well = eventually(lambda: passes(verify(folder, "--send-test", "--json", **where)), up.explain)
        assert finding(well, "alerts.slack")["found"] == "a test was posted"
        assert slack.titles[-1] == "Holdfast: a test. Incidents will be told here."

        freeze(up, "sqs")
        eventually(lambda: health()["checks"]["sqs"][0]["status"] == "fail", up.explain)
        assert "SQS queue holdfast-bells (bells): SQS did not answer" in health()["output"]
        answer = verify(folder, "--json", **where)
        assert answer.code == 1
        assert finding(answer, "sqs.bells.answers")["verdict"] == "fail"
        assert finding(answer, "jobs.end_to_end")["verdict"] == "pass", "jobs run without SQS"

        slack.answers(500, "rollup_error")
        httpx.post(f"{url}/api/jobs", json={"kind": "report", "args": {"fails": True}, "policy": {"max_attempts": 1}})
        eventually(lambda: "Slack answers 500" in health()["checks"]["notifications"][0].get("output", ""), up.explain)
        answer = verify(folder, "--send-test", "--json", **where)
        assert "Slack answers 500" in finding(answer, "alerts.slack")["found"]

        thaw(up, "sqs")
        eventually(lambda: health()["checks"]["sqs"][0]["status"] == "pass", up.explain)
        slack.answers(200)
        eventually(lambda: "1 job of report (ValueError) went dead on default" in slack.titles, up.explain, within=180)
        eventually(lambda: health()["checks"]["notifications"][0]["status"] == "pass", up.explain)
        assert len([title for title in slack.titles if title.startswith("1 job of report")]) == 1


def passes(answer: Any) -> Any:
    return answer if answer.code == 0 and json.loads(answer.out)["overall"] == "pass" else None


@pytest.mark.full
@pytest.mark.timeout(240)
def test_frozen_workers_are_said_by_health_verify_and_slack(
    database: str, conn: Session, folder: Path, slack: SlackServer
) -> None:
    where = {
        "DATABASE_URL": database, "SLACK_WEBHOOK_URL": slack.webhook, "HOLDFAST_RUN_DIR": str(folder / "run"),
        "HOLDFAST_STALE_AFTER": "60", **QUICK,
    }  # fmt: skip
    with ExitStack() as stack:
        api = stack.enter_context(running("api", "tasks", "--port", "0", cwd=folder, **where))
        url = address(api)
        stack.enter_context(running("monitor", "stale", cwd=folder, **where))
        dlq = stack.enter_context(running("monitor", "dlq", cwd=folder, **where))
        worker = stack.enter_context(running("worker", "tasks", cwd=folder, HOLDFAST_MONITORS="false", **where))
        worker.says("worker_started")
        eventually(ready(url, 200), api.explain)

        worker.signal(signal.SIGSTOP)
        freeze(worker, "worker-1")
        try:
            id = enqueue(conn)
            eventually(lambda: "no worker lives, and jobs are due" in httpx.get(f"{url}/api/health").text, api.explain)
            answer = verify(folder, "--json", **where)
            assert finding(answer, "workers.live")["found"] == "none lives"
            title = "workers: no worker lives, and jobs are due"
            eventually(lambda: title in slack.titles, dlq.explain)
        finally:
            thaw(worker, "worker-1")
            worker.signal(signal.SIGCONT)
        eventually(lambda: job(conn, id)["status"] == "succeeded", worker.explain)
        eventually(lambda: f"Resolved: {title}" in slack.titles, dlq.explain)
