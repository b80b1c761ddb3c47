"""The README's example, run as it stands: its files are written, its commands are run, its output is compared."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from holdfast import Holdfast

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    tasks, send, _ = blocks("python")
    (tmp_path / "tasks.py").write_text(tasks)
    (tmp_path / "send.py").write_text(send)
    return tmp_path


def test_the_example_of_the_readme_prints_what_the_readme_says(example: Path, database: str) -> None:
    environment = {**os.environ, "DATABASE_URL": database, "HOLDFAST_PORT": "0"}
    command = next(block for block in blocks("sh") if block.startswith("holdfast up")).split()
    assert command[0] == "holdfast"
    up = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=example,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        sent = subprocess.run(
            [sys.executable, "send.py"],
            cwd=example,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        up.terminate()
        complaints = up.communicate(timeout=60)[1].decode()
    assert sent.returncode == 0, sent.stderr + complaints
    assert f"```\n{sent.stdout}```" in README
    assert up.returncode == 0, complaints


async def test_the_example_of_a_limit_runs(database: str) -> None:
    found: dict[str, Any] = {}
    body = textwrap.indent(blocks("python")[2], "    ")
    exec(f"async def example(hf):\n{body}    return decision", found)
    async with Holdfast(database) as hf:
        assert (await found["example"](hf)).allowed


def test_the_table_of_settings_is_the_settings_own() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "write_settings_table.py", "--check"], check=False, timeout=60
    )
    assert done.returncode == 0, "run: python scripts/write_settings_table.py"
