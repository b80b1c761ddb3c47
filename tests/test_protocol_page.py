"""The programs of docs/reference/protocol.md drive a job through by plain boto3 and SQL."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from holdfast import Holdfast, Settings
from holdfast.core.bell import BellRoutes, read_bell
from holdfast.sqs.client import Sqs
from tests.services.helpers import working
from tests.sqs.local import LocalSqs
from tests.support import Session, row

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "reference" / "protocol.md").read_text()
WORKER, SENDER = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
(MESSAGE,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
async def url(sqs: LocalSqs) -> AsyncIterator[str]:
    client = Sqs(sqs.url("any"))
    yield await client.create(f"plain-{uuid4().hex[:8]}", {}, {"holdfast": "bell"})
    await client.close()


def run(program: str, database: str, sqs: LocalSqs, url: str) -> subprocess.CompletedProcess[str]:
    place = {
        "DATABASE_URL": database, "HOLDFAST_SQS_QUEUE_URL": url, "AWS_ENDPOINT_URL": sqs.endpoint,
        "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    command, environment = [sys.executable, "-c", program], {**os.environ, **place}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_message_is_what_our_workers_read() -> None:
    assert read_bell(MESSAGE) == "mail"


def test_a_job_goes_through_by_plain_boto3_and_sql(database: str, conn: Session, sqs: LocalSqs, url: str) -> None:
    for program in (SENDER, WORKER):
        assert "holdfast import" not in program
        done = run(program, database, sqs, url)
        assert done.returncode == 0, done.stderr
    job = row(conn, "SELECT status, lease, result, worker_id FROM holdfast.jobs")
    assert (job["status"], job["lease"]) == ("succeeded", 1)
    assert job["result"] == {"sent": "send_mail to ada@example.org"}
    worker = row(conn, "SELECT id, gone_reason FROM holdfast.workers")
    assert worker == {"id": job["worker_id"], "gone_reason": "stopped"}


def test_a_handler_that_fails_costs_an_attempt_and_waits(database: str, conn: Session, sqs: LocalSqs, url: str) -> None:
    assert run(SENDER, database, sqs, url).returncode == 0
    done = run(WORKER.replace("args['to']", "args['whom']"), database, sqs, url)
    assert done.returncode == 0, done.stderr
    job = row(conn, "SELECT status, attempts, error, run_at > created_at AS later FROM holdfast.jobs")
    assert (job["status"], job["attempts"], job["later"]) == ("queued", 1, True)
    assert job["error"]["type"] == "KeyError"


async def test_what_a_plain_program_rings_for_is_run_by_our_worker(
    database: str, conn: Session, sqs: LocalSqs, url: str
) -> None:
    app = Holdfast(settings=Settings.model_validate({"database_url": database}))

    @app.job(name="send_mail", queue="mail")
    async def send_mail(to: str) -> str:
        return to

    assert run(SENDER, database, sqs, url).returncode == 0
    async with working(database, app, bells=BellRoutes(url)):
        job = row(conn, "SELECT id FROM holdfast.jobs")
        assert await app.handle(job["id"]).result(timeout=30) == "ada@example.org"


def test_each_call_that_the_page_names_exists(conn: Session) -> None:
    named = set(re.findall(r"holdfast\.(\w+)\(", PAGE))
    known = {
        str(each["name"])
        for each in conn.execute("SELECT proname AS name FROM pg_proc WHERE pronamespace = 'holdfast'::regnamespace")
    }
    assert named <= known
    assert json.loads(MESSAGE)["holdfast"] == "bell"
