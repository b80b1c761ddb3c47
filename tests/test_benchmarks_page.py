"""What is published of the benchmarks is what was measured."""

import json
from pathlib import Path

import pytest

from bench import page
from bench.harness import RESULTS, ROUNDS


def test_the_page_and_the_chart_are_those_of_the_results(tmp_path: Path) -> None:
    page.write(tmp_path / "page.md", tmp_path / "chart.svg")
    advice = "run: python -m bench.page"
    assert page.PAGE.read_text() == (tmp_path / "page.md").read_text(), advice
    assert page.CHART.read_text() == (tmp_path / "chart.svg").read_text(), advice


@pytest.mark.parametrize("group", sorted(json.loads(RESULTS.read_text())))
def test_each_row_has_its_verdict_and_its_rounds(group: str) -> None:
    for name, row in json.loads(RESULTS.read_text())[group]["rows"].items():
        assert row["verdict"] in ("met", "missed", "not run"), name
        if row["verdict"] != "not run":
            least = 1 if group == "soak" else ROUNDS  # ten minutes of the same are rounds enough
            assert len(row["judged"]) == row["rounds"] >= least, name
