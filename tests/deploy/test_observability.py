"""The dashboard and the alerts: written from the definitions of all metrics, and naming nothing that does not exist."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.core.metrics import ALL
from scripts.metric_names import SHOWN, problems

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD, RULES = ROOT / "deploy" / "grafana" / "holdfast.json", ROOT / "deploy" / "prometheus" / "rules.yaml"
RUNBOOK = ROOT / "docs" / "operations" / "runbook.md"

#: What people must be woken for, whatever else there is.
REQUIRED = {
    "OldestJobTooOld", "NoWorkers", "QueueNotDraining", "StaleJobs", "DeadLetterQueueNotEmpty", "MonitorDead",
    "HealthSnapshotStale", "SchemaDrift", "AlertDeliveryFailing",
}  # fmt: skip


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query")


@pytest.mark.parametrize("script", ["write_dashboard.py", "write_alerts.py"])
def test_what_is_there_is_what_its_script_writes(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_every_panel_names_only_metrics_and_labels_that_exist() -> None:
    wrong = {query: problems(query) for query in queries()}
    assert len(wrong) > 30
    assert not {query: found for query, found in wrong.items() if found}


def test_every_rule_names_only_metrics_and_labels_that_exist() -> None:
    assert not {rule["alert"]: found for rule in rules() if (found := problems(rule["expr"]))}


@pytest.mark.parametrize(
    "query",
    [
        "holdfast_nonsense > 0",
        "rate(holdfast_jobs_settled[5m])",  # a counter is queried by its _total
        'holdfast_jobs{worker="a"}',
        "sum by (worker) (holdfast_jobs)",
        "rate(holdfast_jobs_bucket[5m])",  # no histogram
    ],
)
def test_what_does_not_exist_would_be_found(query: str) -> None:
    assert problems(query)


def test_no_query_is_of_a_metric_without_being_seen_as_one() -> None:
    text = DASHBOARD.read_text() + RULES.read_text()
    named = set(re.findall(r"holdfast_[a-z_]+", text))
    assert named <= set(SHOWN)
    assert len({each.shown_name for each in ALL} & named) > 20


def test_the_alerts_that_must_be_there_are_there() -> None:
    assert {f"Holdfast{name}" for name in REQUIRED} <= {rule["alert"] for rule in rules()}


def test_every_alert_leads_to_a_place_on_the_runbook() -> None:
    places = set(re.findall(r'<a id="([\w-]+)"></a>', RUNBOOK.read_text()))
    assert {rule["annotations"]["runbook_url"].partition("#")[2] for rule in rules()} <= places


def test_another_runbook_can_be_named() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "write_alerts.py"), "--runbook", "https://wiki.example.com/jobs"]
    told = yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    places = [rule["annotations"]["runbook_url"] for rule in told["groups"][0]["rules"]]
    assert all(place.startswith("https://wiki.example.com/jobs#") for place in places)


@pytest.mark.deploy
def test_each_alert_fires_when_it_should_and_is_silent_when_it_should() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed: scripts/install-system-packages"
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]):
        done = subprocess.run([promtool, *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    cases = yaml.safe_load((RULES.parent / "tests.yaml").read_text())["tests"]
    assert len(cases) == 2 * len(rules())
