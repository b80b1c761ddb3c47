"""`holdfast doctor`, also called `verify`, beside deployments that run, stand still, or have old settings."""

import asyncio
import json
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI

from holdfast.app import new_id
from holdfast.cli.doctor import _address, _services
from holdfast.config import Settings
from holdfast.core.health import Status
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.migrate import migrate_up
from holdfast.postgres.presence import Introduction, announce_service
from tests.cli.command import Answer, eventually, holdfast_here, running
from tests.cli.test_up import address, ready
from tests.cli.test_worker import APP
from tests.services.helpers import until
from tests.sqs.local import LocalSqs
from tests.web.support import QUICK, api_over, frozen


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="holdfast-verify-", dir="/tmp"))
    made.chmod(0o755)
    (made / "tasks.py").write_text(APP)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def verify(folder: Path, *args: str, **given: str) -> Answer:
    return holdfast_here("verify", *args, cwd=folder, **{"HOLDFAST_RUN_DIR": str(folder / "run"), **given})


def doctor(folder: Path, *args: str, **given: str) -> Answer:
    return holdfast_here("doctor", *args, cwd=folder, **{"HOLDFAST_RUN_DIR": str(folder / "run"), **given})


def verdicts(answer: Answer) -> dict[str, str]:
    return {each["id"]: each["verdict"] for each in json.loads(answer.out)["findings"]}


def finding(answer: Answer, id: str) -> Any:
    return next(each for each in json.loads(answer.out)["findings"] if each["id"] == id)


def swept(folder: Path, database: str) -> bool:
    found = verdicts(verify(folder, "--json", "--only", "monitors", DATABASE_URL=database))
    return found["monitors.pruner"] == found["monitors.stale_job_monitor"] == "pass"


def without_warnings(folder: Path, **where: str) -> Answer | None:
    answer = verify(folder, **where)
    return None if "\nwarn" in f"\n{answer.out}" else answer


def test_beside_up_every_line_passes_and_what_is_wrong_later_is_said(folder: Path, database: str) -> None:
    where = {"DATABASE_URL": database, "HOLDFAST_TERMINATION_GRACE": "60"}
    with running("up", "tasks:hf", "--port", "0", cwd=folder, HOLDFAST_RUN_DIR=str(folder / "run"), **where) as up:
        url = address(up)
        eventually(ready(url, 200), up.explain)
        eventually(lambda: swept(folder, database), up.explain)

        # A machine that is busy may make something slow, and that is a warning then.
        well = eventually(lambda: without_warnings(folder, **where), up.explain)
        assert (well.code, well.err) == (0, ""), well.out
        lines, _, table = well.out.partition("COMPONENT")
        assert {line[:4] for line in lines.splitlines() if line} == {"pass"}
        assert re.search(r"rate limits +429 at request 101, Retry-After \d+ s", lines)
        assert re.search(r"settings +in force in up \(pid \d+\)", lines)
        assert "CODE" in table
        assert table.rstrip().endswith("overall: pass")

        codes = [httpx.get(f"{url}/api/keys/self").status_code for _ in range(101)]
        assert codes == [200] * 100 + [429]
        health = httpx.get(f"{url}/api/health").json()
        assert health["status"] == "pass", health
        assert verify(folder, "--only", "limits.refuse", **where).code == 0, "others who are refused are not in its way"

        (folder / ".env").write_text("HOLDFAST_SLOTS=11\n")
        old = verify(folder, "--json", **where)
        assert old.code == 1
        assert finding(old, "settings.in_force")["fix"] == f"restart up (pid {up.process.pid})"
        assert {id for id, verdict in verdicts(old).items() if verdict != "pass"} == {"settings.in_force"}
        assert json.loads(old.out)["overall"] == "fail"


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """An application on HTTP; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    running = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


async def test_while_postgres_stands_still_it_says_exactly_that(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data", settings={"fsync": "off"}) as postgres:
        migrate_up(postgres.dsn)
        given: dict[str, Any] = {"timeout": 1.0, "limiter_deadline": 0.05, "rhythm": QUICK}
        async with api_over(postgres.dsn, **given) as api, served(api.app) as url:
            with frozen(postgres):
                await until(lambda: api.services.watch.health().status is Status.FAIL)
                where = {"DATABASE_URL": postgres.dsn, "HOLDFAST_URL": url}
                answer = await asyncio.to_thread(verify, folder, "--json", "--timeout", "1.5", **where)
                jobs = await api.client.get("/api/jobs")
    assert answer.code == 3
    database = finding(answer, "database.answers")
    assert database["unreachable"]
    assert "did not answer a ping within 1.5 s" in database["found"]
    assert finding(answer, "api.answers")["verdict"] == "pass"
    assert finding(answer, "health.status")["found"].startswith("503, fail: database: it does not answer")
    assert finding(answer, "jobs.end_to_end")["verdict"] == "skip"
    assert (jobs.status_code, jobs.json()["title"]) == (503, "The ledger does not answer")


def test_where_nothing_runs_it_says_how_to_start(folder: Path) -> None:
    answer = verify(folder, "--data-dir", str(folder / "data"))
    assert answer.code == 3
    assert answer.err.startswith(f"error: no local Postgres runs in {folder}/data; start everything with: holdfast up")


async def test_of_several_apis_on_a_host_the_one_of_this_folder_is_asked_and_no_dead_one(database: str) -> None:
    here = Introduction(new_id(), "up", socket.gethostname(), 1, "1", str(Path.cwd()), "h", "http://127.0.0.1:1")
    ledger = AsyncLedger(database)
    for changes in (
        {"address": "http://127.0.0.1:2"},
        {"address": "http://127.0.0.1:3", "folder": "/elsewhere"},
        {"address": "http://127.0.0.1:4", "host": "elsewhere"},
    ):
        await ledger.call(announce_service(replace(here, id=new_id(), **changes)))  # type: ignore[arg-type]
    first = replace(here, id=new_id())
    await ledger.call(announce_service(first))
    assert _address(Settings(), await _services(ledger), 1.0) == "http://127.0.0.1:1"
    await ledger.call(announce_service(replace(here, id=new_id(), address="http://127.0.0.1:5")))
    await ledger.call(announce_service(first))  # the other one is not heard again
    assert _address(Settings(), await _services(ledger), 1.0) == "http://127.0.0.1:1"
    await ledger.close()


def test_an_address_that_is_none_is_refused(folder: Path) -> None:
    answer = verify(folder, "--url", "jobs.example.org")
    assert answer.code == 2
    assert "url from the command line: it must look like https://jobs.example.org" in answer.err


def test_lines_are_listed_and_chosen_by_their_ids(folder: Path, database: str) -> None:
    where = {"DATABASE_URL": database}
    listed = json.loads(doctor(folder, "--list", "--json", **where).out)["lines"]
    ids = [each["id"] for each in listed]
    assert {"database.answers", "schema.drift", "limits.refuse"} <= set(ids)
    assert "schema.drift" in doctor(folder, "--list", **where).out
    only = doctor(folder, "--json", "--only", "schema.drift,access", **where)
    assert (only.code, set(verdicts(only))) == (0, {"schema.drift", "access.grants", "access.rows", "access.strangers"})
    wrong = doctor(folder, "--only", "schema.drfit", **where)
    assert (wrong.code, "did you mean schema.drift?" in wrong.err) == (2, True)


def test_what_is_broken_is_repaired_when_it_is_asked_for_and_only_then(folder: Path, database: str) -> None:
    where = {"DATABASE_URL": database}
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("DROP INDEX holdfast.jobs_finished")
        broken = doctor(folder, "--json", "--only", "schema.drift", **where)
        assert (broken.code, finding(broken, "schema.drift")["verdict"]) == (1, "fail")
        asked = doctor(folder, "--only", "schema.drift", "--fix", "--dry-run", **where)
        assert asked.code == 1
        assert "would do: DELETE FROM holdfast.schema_migrations WHERE version IN (1)" in asked.err
        assert "would do: holdfast migrate up" in asked.err
        repaired = doctor(folder, "--only", "schema.drift", "--fix", **where)
        assert (repaired.code, "doing: holdfast migrate up" in repaired.err) == (0, True), repaired.err
        assert conn.execute("SELECT to_regclass('holdfast.jobs_finished') IS NOT NULL").fetchone() == (True,)
    assert doctor(folder, "--dry-run", **where).code == 2


def test_warnings_end_with_an_exit_code_of_their_own_where_they_count(folder: Path, database: str) -> None:
    where = {"DATABASE_URL": database}
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("SELECT holdfast.register_worker(gen_random_uuid(), '{}')")
        conn.execute("UPDATE holdfast.workers SET seen_at = holdfast.clock() - interval '9 s', lost_after = '25 s'")
        codes = [doctor(folder, "--only", "workers.beats", *more, **where).code for more in ([], ["--fail-on", "warn"])]
    assert codes == [0, 4]


@pytest.mark.parametrize("line", ["jobs.end_to_end", "e2e.death"])
def test_a_doctor_that_is_told_to_end_takes_its_canary_with_it(line: str, folder: Path, database: str) -> None:
    """As a job of CI that runs out of time: nobody would ever clear a dead canary away."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            'SELECT holdfast.register_worker(gen_random_uuid(), \'{"queues": ["default"], "kinds": [], "slots": 3}\')'
        )
        command = ("doctor", "--e2e", "--only", line, "--url", "http://127.0.0.1:1")
        with running(*command, cwd=folder, DATABASE_URL=database) as made:
            eventually(lambda: conn.execute("SELECT FROM holdfast.jobs WHERE status = 'queued'").fetchall())
            made.process.terminate()
            assert made.ends() == 130, made.explain()
        left = conn.execute("SELECT status FROM holdfast.jobs WHERE kind = 'holdfast.canary'").fetchall()
    assert set(left) == {("cancelled",)}


def test_without_a_service_a_queue_that_is_tagged_for_bells_is_known_as_one(
    folder: Path, database: str, sqs: LocalSqs
) -> None:
    answer = verify(
        folder, "--json", "--only", "sqs.queues", DATABASE_URL=database, SQS_QUEUE_URL=sqs.url("holdfast-bells")
    )
    assert verdicts(answer)["sqs.bells.answers"] == "pass"
    assert verdicts(answer)["sqs.bells.redrive"] == "pass"
