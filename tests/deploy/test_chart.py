"""The Helm chart: rendered by Helm itself, checked against Kubernetes's schemas, wired to what services answer."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from holdfast.cli.main import application
from holdfast.config import Settings
from tests.support import Session, row

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "holdfast"
LEAST = {"app": "tasks:hf", "database": {"existingSecret": "ledger"}}


def render(values: dict[str, Any]) -> dict[str, Any]:
    python = ROOT / ".tools" / "ship" / "bin" / "python"
    assert python.exists(), "the tools are not there: ./test --deploy installs them"
    command = [python, Path(__file__).with_name("render.py"), CHART]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    found = render({**LEAST, "keda": {"enabled": True}, "worker": {"queues": ["mail", "it's"]}})
    assert not found.get("refused"), found
    assert found["problems"] == []
    made: list[dict[str, Any]] = found["manifests"]
    return made


def of(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests if each["kind"] == kind]


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in manifests:
        if each["kind"] in ("Deployment", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            yield each["metadata"]["name"], each["spec"]


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in pod["containers"][0]["env"]}


def test_it_has_all_that_is_expected(manifests: list[dict[str, Any]]) -> None:
    kinds = {each["kind"] for each in manifests}
    assert kinds == {
        "Deployment", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "Job", "Pod",
        "ScaledObject", "TriggerAuthentication",
    }  # fmt: skip
    assert len(of(manifests, "Deployment")) == 4


def test_every_probe_asks_the_address_that_means_what_it_is_for(manifests: list[dict[str, Any]]) -> None:
    for deployment in of(manifests, "Deployment"):
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/startupz", "liveness": "/livez", "readiness": "/readyz"}
        (port,) = container["ports"]
        assert container["livenessProbe"]["httpGet"]["port"] == port["name"]
        told = environment(deployment["spec"]["template"]["spec"])
        assert str(port["containerPort"]) in (told.get("HOLDFAST_PROBE_PORT"), told.get("HOLDFAST_PORT"))


def test_no_pod_has_rights_that_it_does_not_need(manifests: list[dict[str, Any]]) -> None:
    seen = dict(pods(manifests))
    assert len(seen) == 6
    for pod in seen.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        held = pod["containers"][0]["securityContext"]
        assert held["readOnlyRootFilesystem"] is True
        assert held["allowPrivilegeEscalation"] is False
        assert held["capabilities"]["drop"] == ["ALL"]


def test_every_command_and_every_setting_exists(manifests: list[dict[str, Any]]) -> None:
    commands = get_command(application()).commands  # type: ignore[attr-defined]
    for _, pod in pods(manifests):
        assert pod["containers"][0]["args"][0] in commands
        ours = {name.removeprefix("HOLDFAST_").lower() for name in environment(pod) if name.startswith("HOLDFAST_")}
        assert ours <= set(Settings.model_fields)


def test_no_secret_stands_in_a_manifest(manifests: list[dict[str, Any]]) -> None:
    for name, pod in pods(manifests):
        (address,) = [each for each in pod["containers"][0]["env"] if each["name"] == "DATABASE_URL"]
        assert address["valueFrom"]["secretKeyRef"]["name"] == "ledger", name
        assert "value" not in address


def test_jobs_get_less_time_than_kubernetes_gives_the_pod(manifests: list[dict[str, Any]]) -> None:
    (worker,) = [each for each in of(manifests, "Deployment") if each["metadata"]["name"].endswith("-worker")]
    pod = worker["spec"]["template"]["spec"]
    told = environment(pod)
    assert float(told["HOLDFAST_DRAIN_TIMEOUT"]) + 5 < pod["terminationGracePeriodSeconds"]
    assert told["HOLDFAST_TERMINATION_GRACE"] == str(pod["terminationGracePeriodSeconds"])
    Settings(
        drain_timeout=float(told["HOLDFAST_DRAIN_TIMEOUT"]), termination_grace=float(told["HOLDFAST_TERMINATION_GRACE"])
    )


def test_the_autoscaler_s_query_runs_and_gives_a_number(manifests: list[dict[str, Any]], conn: Session) -> None:
    (scaled,) = of(manifests, "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    assert "'it''s'" in trigger["metadata"]["query"]
    (number,) = row(conn, trigger["metadata"]["query"]).values()
    assert int(number) == 0
    assert trigger["metadata"]["targetQueryValue"] == "10"
    (worker,) = [each for each in of(manifests, "Deployment") if each["metadata"]["name"].endswith("-worker")]
    assert scaled["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert "replicas" not in worker["spec"], "both would set the number of pods"


def test_budgets_and_services_find_their_pods(manifests: list[dict[str, Any]]) -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in of(manifests, "Deployment")]
    selectors = [each["spec"]["selector"]["matchLabels"] for each in of(manifests, "PodDisruptionBudget")]
    selectors += [each["spec"]["selector"] for each in of(manifests, "Service")]
    for selector in selectors:
        assert sum(selector.items() <= each.items() for each in labels) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "database.existingSecret is empty"),
        ({"database": {"existingSecret": "ledger"}}, "app is empty"),
        ({**LEAST, "worker": {"drainTimeout": 60}}, "worker.drainTimeout is 60"),
        ({**LEAST, "api": {"shutdownDelay": 30}}, "api.shutdownDelay is 30"),
        ({**LEAST, "wroker": {}}, "wroker"),
        ({**LEAST, "worker": {"slots": 0}}, "slots"),
    ],
)
def test_what_cannot_work_is_refused_with_its_name(values: dict[str, Any], said: str) -> None:
    assert said in render(values)["refused"]


def test_every_part_can_be_left_out() -> None:
    off = {name: {"enabled": False} for name in ("api", "worker", "monitors", "migrate", "networkPolicy")}
    found = render({**LEAST, **off, "serviceAccount": {"create": False}})
    assert found["problems"] == []
    assert {each["kind"] for each in found["manifests"]} == {"Pod"}


def test_every_value_is_in_the_schema() -> None:
    import yaml

    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values) <= set(schema)
    for name, held in values.items():
        if isinstance(held, dict) and "properties" in schema[name]:
            assert set(held) == set(schema[name]["properties"]), name
