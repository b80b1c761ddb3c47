"""The page of the faults is what was measured, and says so where something did not hold."""

import json

from tests.chaos.page import PAGE, PEERS, page
from tests.chaos.proof import FILE


def test_the_page_is_what_its_script_writes() -> None:
    written = page(json.loads(FILE.read_text()), json.loads(PEERS.read_text()))
    assert PAGE.read_text() == written, "run: python -m tests.chaos.page"


def test_what_did_not_hold_is_on_the_page() -> None:
    known = json.loads(FILE.read_text())
    known["faults"][0] |= {"lost": 3, "verdict": "3 jobs never ended"}
    written = page(known, json.loads(PEERS.read_text()))
    assert f"| 3 | 0 | {known['faults'][0]['fenced_late_writes']} | 0 | 3 jobs never ended |" in written
