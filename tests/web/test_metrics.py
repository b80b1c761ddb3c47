"""The metrics: made of definitions, read by Prometheus's own tool, and on their page of the documentation."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from holdfast.core.metrics import ALL, Scope, Type
from holdfast.instrument.supervised import SupervisorMetrics
from tests.services.helpers import app_on, until, working
from tests.support import Session
from tests.web.support import Api, api_over
from tests.web.test_health import all_is_well

ROOT = Path(__file__).parent.parent.parent


async def scraped(api: Api, scope: str = "") -> str:
    answer = await api.client.get("/metrics", params={"scope": scope})
    assert answer.status_code == 200
    return answer.text


def names(text: str) -> dict[str, str]:
    """Each metric that is shown, and its type."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


async def test_what_is_shown_is_what_is_defined(database: str, conn: Session) -> None:
    all_is_well(conn)
    async with api_over(database) as api:
        shown = set(names(await scraped(api)))
        cluster = names(await scraped(api, "cluster"))
        process = names(await scraped(api, "process"))
    assert shown == {each.shown_name for each in ALL if each.scope is not Scope.SERVICE}
    assert set(cluster) == {each.shown_name for each in ALL if each.scope is Scope.CLUSTER}
    assert not set(cluster) & set(process)
    assert {each.type.value for each in ALL if each.shown_name in cluster} == {"counter", "gauge", "histogram"}


async def test_a_scope_that_does_not_exist_is_refused_with_those_that_do(api: Api) -> None:
    answer = await api.client.get("/metrics?scope=everything")
    assert (answer.status_code, "there are cluster and process" in answer.text) == (400, True)


async def test_times_of_jobs_are_histograms_that_prometheus_can_add_up(database: str) -> None:
    app = app_on(database)

    @app.job()
    async def report() -> None:
        pass

    async with working(database, app) as running, api_over(database) as api:
        for _ in range(3):
            await (await report.enqueue()).result(timeout=30)
        await running.drained()
        await api.services.watch.look("jobs")
        text = await scraped(api)
    assert 'holdfast_jobs_settled_total{kind="report",outcome="succeeded",queue="default"} 3.0' in text
    assert 'holdfast_job_run_seconds_bucket{kind="report",le="+Inf",queue="default"} 3.0' in text
    assert 'holdfast_job_run_seconds_count{kind="report",queue="default"} 3.0' in text
    assert 'holdfast_job_wait_seconds_bucket{kind="report",le="3600",queue="default"} 3.0' in text
    assert 'le="0.005"' not in text
    await app.close()


async def test_what_is_written_over_http_is_counted_once(api: Api) -> None:
    for key in ("one", "one", "two"):
        body = {"kind": "report", "queue": "mail", "args": {}}
        await api.client.post("/api/jobs", json=body, headers={"Idempotency-Key": key})
    assert 'holdfast_jobs_enqueued_total{kind="report",queue="mail"} 2.0' in await scraped(api, "process")


def test_a_service_shows_what_is_defined_for_it() -> None:
    text = generate_latest(SupervisorMetrics().registry).decode()
    assert set(names(text)) == {each.shown_name for each in ALL if each.scope is Scope.SERVICE} | {
        "holdfast_build_info"
    }


async def test_labels_cannot_break_the_lines(database: str, conn: Session) -> None:
    conn.execute(
        "INSERT INTO holdfast.queues (name, created_at) VALUES (%s, holdfast.clock())", ('evil"name\nholdfast_jobs 7',)
    )
    async with api_over(database) as api:
        text = await scraped(api)
    assert r'queue="evil\"name\nholdfast_jobs 7"' in text


async def test_open_metrics_are_given_to_who_asks_for_them(api: Api) -> None:
    answer = await api.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    families = {each.name for each in text_string_to_metric_families(answer.text)}
    assert families == {each.name for each in ALL if each.scope is not Scope.SERVICE} - {"holdfast_schema"}


@pytest.mark.full
async def test_prometheus_s_own_tool_finds_nothing_to_say(database: str) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed: scripts/install-system-packages"
    app = app_on(database)

    @app.job()
    async def report() -> None:
        pass

    async with working(database, app, sweep=True), api_over(database) as api:
        await (await report.enqueue()).result(timeout=30)
        await until(lambda: api.services.watch.report is not None)
        text = await scraped(api)
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    await app.close()


def test_the_page_of_metrics_is_what_its_script_writes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "write_metrics_page.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_names_follow_the_rules_of_prometheus() -> None:
    for each in ALL:
        assert re.fullmatch(r"holdfast_[a-z][a-z0-9_]*", each.name)
        assert not each.name.endswith(("_total", "_count", "_sum", "_bucket", "_milliseconds", "_ms"))
        assert each.help.endswith(".")
        assert not {"le", "quantile", "job_id", "worker", "worker_id", "id"} & set(each.labels)
    assert all(each.name.endswith("_seconds") for each in ALL if each.type is Type.HISTOGRAM)
    assert len({each.name for each in ALL}) == len(ALL)
