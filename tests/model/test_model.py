"""The protocol as a small model (docs/model/holdfast.pml), checked by spin in all its histories.

Each rule of the model is also broken once: a model that cannot fail shows nothing.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

MODEL = Path(__file__).resolve().parents[2] / "docs" / "model" / "holdfast.pml"
SAFETY = ("SAFETY", "NOCLAIM", "COLLAPSE")
LIVENESS = ("NFAIR=3", "COLLAPSE")


@dataclass(frozen=True)
class Search:
    """What the verifier said when it was through."""

    errors: int
    states: int
    text: str


def search(folder: Path, *rules: str, formula: str | None = None, **sizes: int) -> Search:
    """Build the verifier of the model and run it to its end; `formula` asks for a formula instead of assertions."""
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        pytest.fail("spin or gcc is missing; as root: scripts/install-system-packages")
    defined = [f"-D{rule}" for rule in rules] + [f"-D{name.upper()}={size}" for name, size in sizes.items()]
    run(["spin", *defined, "-a", str(MODEL)], folder)
    options = [f"-D{option}" for option in (SAFETY if formula is None else LIVENESS)]
    run(["gcc", "-w", "-O2", *options, "-o", "pan", "pan.c"], folder)
    text = run(["./pan", "-m100000", "-n", *([] if formula is None else ["-a", "-f", "-N", formula])], folder)
    errors, states = re.search(r"errors: (\d+)", text), re.search(r"(\d+) states, stored", text)
    assert errors is not None, text
    assert states is not None, text
    for shortcut in ("max search depth too small", "Search not completed", "out of memory", "interrupted"):
        if errors[1] == "0":
            assert shortcut not in text, text
    return Search(int(errors[1]), int(states[1]), text)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("jobs", "faults", "at_least"), [(1, 2, 20_000_000), (2, 1, 10_000_000)], ids=["1 job, 2 faults", "2 jobs, 1 fault"]
)
def test_no_history_breaks_an_assertion(tmp_path: Path, jobs: int, faults: int, at_least: int) -> None:
    found = search(tmp_path, jobs=jobs, faults=faults)
    assert found.errors == 0, found.text
    assert found.states > at_least, "the model has become so small that it shows less than it did"


@pytest.mark.parametrize("formula", ["every_job_ends", "no_run_stays_with_the_gone"])
def test_under_fairness_every_history_gets_on(tmp_path: Path, formula: str) -> None:
    found = search(tmp_path, formula=formula, faults=1, cancels=1, retries=1)
    assert found.errors == 0, found.text


@pytest.mark.parametrize(
    "rule",
    [
        "NO_LEASE_CHECK",
        "RESCUE_KEEPS_LEASE",
        "CLAIM_KEEPS_LEASE",
        "GONE_NOT_FINAL",
        "GONE_BY_PLAIN_UPDATE",
        "GONE_UNCOMPARED",
        "RESCUE_UNCHECKED",
        "SETTLE_ENDED_JOBS",
    ],
)
def test_without_one_of_its_rules_an_assertion_fails(tmp_path: Path, rule: str) -> None:
    found = search(tmp_path, rule, faults=2)
    assert found.errors == 1, found.text
    assert "assertion violated" in found.text


@pytest.mark.parametrize(
    ("rule", "formula", "faults"),
    [("UNKNOWN_CLAIMS_KEPT", "every_job_ends", 1), ("ONLY_JUST_MARKED", "no_run_stays_with_the_gone", 2)],
)
def test_without_one_of_its_sweeps_a_run_is_stuck(tmp_path: Path, rule: str, formula: str, faults: int) -> None:
    found = search(tmp_path, rule, formula=formula, faults=faults, cancels=0, retries=0)
    assert found.errors == 1, found.text
