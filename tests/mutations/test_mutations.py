"""Tests of the tests: break one promise at a time, in a copy, and see that the tests named for it fail."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mutations.in_the_copy import COPY
from tests.mutations.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("src", "tests", "scripts")

PASSED, FAILED = 0, 1  # exit codes of pytest; the others mean that it could not run

#: A mutation has to be wrong, not broken: these say that the copy did not even make sense.
NONSENSE = ("SyntaxError", "UndefinedColumn", "UndefinedFunction", "UndefinedTable", "NameError", "ImportError")


@dataclass(frozen=True)
class Case:
    """What became of one test: the node id that asked for it, and the text of its failure, if it failed."""

    node: str
    failure: str | None


@dataclass(frozen=True)
class Outcome:
    code: int
    cases: tuple[Case, ...]
    output: str


def copy_of(source: Path, target: Path) -> Path:
    target.mkdir()
    for part in PARTS:
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "pyproject.toml", target)
    return target


def apply(mutation: Mutation, package: Path) -> None:
    for edit in mutation.edits:
        path = package / edit.file
        text = path.read_text()
        assert text.count(edit.old) == 1, f"{mutation.name}: not exactly once in {edit.file}:\n{edit.old}"
        path.write_text(text.replace(edit.old, edit.new))


def run_python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(copy / "src"), str(copy)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", COPY: str(copy)}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def run_tests(copy: Path, nodes: Sequence[str]) -> Outcome:
    report = copy / "report.xml"
    options = ("-q", "-p", "tests.mutations.in_the_copy", "-p", "no:cacheprovider", f"--junitxml={report}")
    done = run_python(copy, "-m", "pytest", *options, *dict.fromkeys(nodes))
    found = list(ET.parse(report).iter("testcase")) if report.exists() else []
    return Outcome(done.returncode, tuple(map(case_of, found)), done.stdout)


def case_of(element: ET.Element) -> Case:
    node = element.get("classname", "").replace(".", "/") + ".py::" + element.get("name", "")
    failure = element.find("failure")
    return Case(node, None if failure is None else (failure.get("message") or "") + (failure.text or ""))


def stands_for(node: str, case: Case) -> bool:
    return case.node == node or case.node.startswith(node + "[")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state of the checkout for all runs, whatever happens in it meanwhile."""
    return copy_of(ROOT, tmp_path_factory.mktemp("mutations") / "pristine")


def run_mutant(mutation: Mutation, pristine: Path, folder: Path) -> Outcome:
    copy = copy_of(pristine, folder / "mutant")
    apply(mutation, copy / "src" / "holdfast")
    built = run_python(copy, str(copy / "scripts" / "build_migrations.py"))
    assert built.returncode == 0, built.stdout
    outcome = run_tests(copy, mutation.killed_by)
    shutil.rmtree(copy)
    return outcome


@pytest.fixture(scope="module")
def mutants(
    request: pytest.FixtureRequest, pristine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Outcome]]]:
    """What becomes of each mutation that was asked for; two are tried at a time."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    wanted: list[Any] = [
        item.callspec.params["mutation"] for item in items if item.originalname == "test_the_named_tests_notice"
    ]
    pool = ThreadPoolExecutor(2)
    yield {each.name: pool.submit(run_mutant, each, pristine, tmp_path_factory.mktemp("mutant")) for each in wanted}
    pool.shutdown(cancel_futures=True)


def test_each_mutation_has_a_name_of_its_own_and_a_promise_that_it_breaks() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert {mutation.promise for mutation in MUTATIONS} == {"P1", "P2", "P3", "P4", "P5", "P9", "P10"}
    assert all(mutation.killed_by for mutation in MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_a_mutation_changes_is_still_there(mutation: Mutation) -> None:
    for edit in mutation.edits:
        count = (ROOT / "src" / "holdfast" / edit.file).read_text().count(edit.old)
        assert count == 1, f"found {count} times in {edit.file}: write this mutation anew for what stands there now"


@pytest.mark.full
@pytest.mark.timeout(360)
def test_the_named_tests_pass_on_an_unbroken_copy(pristine: Path) -> None:
    nodes = [node for mutation in MUTATIONS for node in mutation.killed_by]
    outcome = run_tests(pristine, nodes)
    assert outcome.code == PASSED, outcome.output
    unknown = [node for node in nodes if not any(stands_for(node, case) for case in outcome.cases)]
    assert unknown == []


@pytest.mark.full
@pytest.mark.timeout(360)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_named_tests_notice(mutation: Mutation, mutants: Mapping[str, Future[Outcome]]) -> None:
    outcome = mutants[mutation.name].result()
    assert outcome.code == FAILED, outcome.output
    failed = [case for case in outcome.cases if case.failure]
    survived = [node for node in mutation.killed_by if not any(stands_for(node, case) for case in failed)]
    assert survived == [], f"these tests passed under the mutation, or could not run:\n{outcome.output}"
    nonsense = [word for word in NONSENSE for case in failed if word in (case.failure or "")]
    assert nonsense == [], f"the mutation does not make sense to Python or Postgres:\n{outcome.output}"
