"""The page about the peers is what was measured, and says so where something did not hold, of us as of them."""

import copy
import json
from typing import Any

import pytest

from bench.faults.page import PAGE, page
from bench.faults.record import FILE

OURS = "Holdfast, its defaults"


@pytest.fixture
def known() -> Any:
    return json.loads(FILE.read_text())


def test_the_page_is_what_its_script_writes(known: Any) -> None:
    assert PAGE.read_text() == page(known), "run: python -m bench.faults.page"


def test_everybody_took_part_in_every_fault(known: Any) -> None:
    for fault, cells in known["cells"].items():
        missing = {title for title in known["systems"] if title not in cells}
        if "its supervisor" in fault:  # only Holdfast has one
            missing = {title for title in missing if title.startswith("Holdfast")}
        assert not missing, fault


def test_the_worst_of_our_own_rounds_is_on_the_page(known: Any) -> None:
    bad = copy.deepcopy(known["cells"]["worker SIGKILL"][OURS][0]) | {"lost": 3, "not_again": 2, "overlaps": 1}
    known["cells"]["worker SIGKILL"][OURS].append(bad)
    row = next(line for line in page(known).splitlines() if line.startswith(f"| {OURS} | **3**"))
    assert "**2 not in 150 s**" in row
    assert "| not in 150 s | **1** |" in row
