"""Types are part of the public surface: what is right passes, each mistake is found where it is made."""

import re
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).with_name("handlers.py")
IGNORED = r"  # type: ignore\[([a-z-]+)\]$"
ROOT = SAMPLE.parent.parent.parent


def test_a_type_checker_sees_arguments_and_results_of_handlers(tmp_path: Path) -> None:
    copy = tmp_path / "handlers.py"
    copy.write_text(re.sub(IGNORED, "", SAMPLE.read_text(), flags=re.MULTILINE))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--show-error-codes", "--hide-error-context", "--no-error-summary",
         "--cache-dir", str(ROOT / ".mypy_cache" / "typing"), "--config-file", "", str(copy)],
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found = {
        (int(line), code) for line, code in re.findall(r"handlers\.py:(\d+): error: .*\[([a-z-]+)\]", checked.stdout)
    }
    expected = {
        (number, code)
        for number, line in enumerate(SAMPLE.read_text().splitlines(), 1)
        for code in re.findall(IGNORED, line)
    }
    assert checked.stderr == ""
    assert len(expected) >= 12
    assert found == expected, checked.stdout
