"""Types are part of the public surface: what is right passes, each mistake is found where it is made."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("handlers.py")
IGNORED = r"  # type: ignore\[([a-z-]+)\]$"
ROOT = SAMPLE.parent.parent.parent
MISTAKES = {
    number: code for number, line in enumerate(SAMPLE.read_text().splitlines(), 1) for code in re.findall(IGNORED, line)
}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The sample with nothing ignored."""
    copy = tmp_path / "handlers.py"
    copy.write_text(re.sub(IGNORED, "", SAMPLE.read_text(), flags=re.MULTILINE))
    return copy


def test_there_are_mistakes_to_find() -> None:
    assert len(MISTAKES) >= 18


def test_mypy_sees_arguments_and_results_of_handlers(sample: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--show-error-codes", "--hide-error-context", "--no-error-summary",
         "--cache-dir", str(ROOT / ".mypy_cache" / "typing"), "--config-file", "", str(sample)],
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found = re.findall(r"handlers\.py:(\d+): error: .*\[([a-z-]+)\]", checked.stdout)
    assert checked.stderr == ""
    assert {int(line): code for line, code in found} == MISTAKES, checked.stdout


def test_pyright_sees_them_too(sample: Path) -> None:
    """By basedpyright, which is pyright in a package that brings its own runtime."""
    (sample.parent / "pyrightconfig.json").write_text(
        json.dumps({"include": [sample.name], "extraPaths": [str(ROOT / "src")], "typeCheckingMode": "standard"})
    )
    checked = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable,
         "--project", str(sample.parent)],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    said = json.loads(checked.stdout)["generalDiagnostics"]
    errors = {each["range"]["start"]["line"] + 1: each["message"] for each in said if each["severity"] == "error"}
    assert set(errors) == set(MISTAKES), errors
