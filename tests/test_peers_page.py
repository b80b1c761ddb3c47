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


def figures(known: Any, fault: str, name: str, what: str) -> list[int]:
    """That figure of all rounds of all its settings."""
    cells = known["cells"][fault]
    return [each[what] for title, rounds in cells.items() if title.startswith(name) for each in rounds]


@pytest.mark.parametrize("fault", ["Postgres restarted", "Postgres SIGKILL and restart", "all sessions terminated"])
def test_that_nobody_lost_a_job_when_postgres_went_away_is_so(known: Any, fault: str) -> None:
    assert not any(figures(known, fault, "", "lost"))
    for name in ("Holdfast", "graphile-worker", "pg-boss"):
        assert not any(figures(known, fault, name, "restarts"))
    for what in ("twice", "stuck"):
        assert not any(figures(known, fault, "Holdfast", what))


def test_what_is_said_of_settling_late_is_so(known: Any) -> None:
    faults = ("Postgres restarted", "Postgres SIGKILL and restart", "all sessions terminated")
    assert sum(sum(figures(known, fault, "PgQueuer, its defaults", "twice")) for fault in faults)
    assert sum(sum(figures(known, fault, "Procrastinate, its defaults", "stuck")) for fault in faults)


def test_what_is_said_of_frozen_workers_is_so(known: Any) -> None:
    frozen = "worker SIGSTOP for 60 s"
    assert not any(figures(known, frozen, "pg-boss", "late_writes"))
    assert all(figures(known, frozen, "pg-boss, quick", "twice"))
    for name in ("PgQueuer", "Procrastinate, quick"):
        assert all(figures(known, frozen, name, "late_writes"))
    for name in ("graphile-worker", "pg-boss, its defaults", "Procrastinate, its defaults"):
        assert not any(figures(known, frozen, name, "overlaps"))
    assert not any(figures(known, frozen, "Holdfast", "overlaps"))
    for fault in (frozen, "worker and its supervisor SIGSTOP for 60 s"):
        for what in ("late_writes", "lost"):
            assert not any(figures(known, fault, "Holdfast", what))


def test_what_is_said_of_killed_workers_is_so(known: Any) -> None:
    killed = "worker SIGKILL"
    assert max(figures(known, killed, "Holdfast", "again")) < 3
    assert not any(figures(known, killed, "PgQueuer", "not_again"))
    for name in ("graphile-worker", "pg-boss, its defaults", "Procrastinate, its defaults"):
        assert all(figures(known, killed, name, "not_again"))
