"""The documentation as a site: built without a warning, every page in its place."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def arranged(found: object) -> list[str]:
    if isinstance(found, str):
        return [found]
    parts = found.values() if isinstance(found, dict) else found
    assert not isinstance(parts, int | float)
    return [page for part in parts for page in arranged(part)]  # type: ignore[attr-defined]


def test_every_page_has_its_place() -> None:
    text = re.sub(r"^hooks:.*$", "", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    placed = set(arranged(yaml.safe_load(text)["nav"]))
    pages = {str(each.relative_to(ROOT / "docs")) for each in (ROOT / "docs").rglob("*.md")}
    assert {each for each in pages if not each.startswith("decisions/")} <= placed


@pytest.mark.deploy
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    tool = ROOT / ".tools" / "ship" / "bin" / "mkdocs"
    assert tool.exists(), "the tools are not there: ./test --deploy installs them"
    done = subprocess.run(
        [tool, "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runbook = (tmp_path / "site" / "operations" / "runbook" / "index.html").read_text()
    assert 'id="dead_letters"' in runbook
    assert (tmp_path / "site" / "index.html").exists()
