"""`holdfast verify` beside a deployment that runs, and that is then frozen, throttled, or left with old settings."""

import json
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.app import new_id
from holdfast.cli.verify import _address, _services
from holdfast.config import Settings
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.migrate import migrate_up
from holdfast.postgres.presence import Introduction, announce_service
from tests.cli.command import Answer, eventually, holdfast, running
from tests.cli.test_up import address, ready
from tests.cli.test_worker import APP
from tests.web.support import frozen


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="holdfast-verify-", dir="/tmp"))
    made.chmod(0o755)
    (made / "tasks.py").write_text(APP)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def verify(folder: Path, *args: str, **given: str) -> Answer:
    return holdfast("verify", *args, cwd=folder, **{"HOLDFAST_RUN_DIR": str(folder / "run"), **given})


def verdicts(answer: Answer) -> dict[str, str]:
    return {each["id"]: each["verdict"] for each in json.loads(answer.out)["findings"]}


def finding(answer: Answer, id: str) -> Any:
    return next(each for each in json.loads(answer.out)["findings"] if each["id"] == id)


def swept(folder: Path, database: str) -> bool:
    found = verdicts(verify(folder, "--json", DATABASE_URL=database))
    return found["monitors.pruner"] == found["monitors.stale_job_monitor"] == "pass"


def test_beside_up_every_line_passes_and_what_is_wrong_later_is_said(folder: Path, database: str) -> None:
    where = {"DATABASE_URL": database}
    with running("up", "tasks:hf", "--port", "0", cwd=folder, HOLDFAST_RUN_DIR=str(folder / "run"), **where) as up:
        url = address(up)
        eventually(ready(url, 200), up.explain)
        eventually(lambda: swept(folder, database), up.explain)

        well = verify(folder, **where)
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
        assert verify(folder, **where).code == 0, "others who are refused are not in its way"

        (folder / ".env").write_text("HOLDFAST_SLOTS=11\n")
        old = verify(folder, "--json", **where)
        assert old.code == 1
        assert finding(old, "settings.in_force")["fix"] == f"restart up (pid {up.process.pid})"
        assert {id for id, verdict in verdicts(old).items() if verdict != "pass"} == {"settings.in_force"}
        assert json.loads(old.out)["overall"] == "fail"


def test_while_postgres_stands_still_it_says_exactly_that(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data", settings={"fsync": "off"}) as postgres:
        migrate_up(postgres.dsn)
        where = {"DATABASE_URL": postgres.dsn, "HOLDFAST_API_TIMEOUT": "1"}
        with running("up", "tasks:hf", "--port", "0", cwd=folder, HOLDFAST_RUN_DIR=str(folder / "run"), **where) as up:
            url = address(up)
            eventually(ready(url, 200), up.explain)
            with frozen(postgres):
                eventually(ready(url, 503), up.explain)
                answer = verify(folder, "--json", **where)
                jobs = httpx.get(f"{url}/api/jobs")
    assert answer.code == 3
    database = finding(answer, "database.answers")
    assert database["unreachable"]
    assert "did not answer a ping within 5 s" in database["found"]
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
    assert _address(Settings(), await _services(ledger)) == "http://127.0.0.1:1"
    await ledger.call(announce_service(replace(here, id=new_id(), address="http://127.0.0.1:5")))
    await ledger.call(announce_service(first))  # the other one is not heard again
    assert _address(Settings(), await _services(ledger)) == "http://127.0.0.1:1"
    await ledger.close()


def test_an_address_that_is_none_is_refused(folder: Path) -> None:
    answer = verify(folder, "--url", "jobs.example.org")
    assert answer.code == 2
    assert "url from the command line: it must look like https://jobs.example.org" in answer.err
