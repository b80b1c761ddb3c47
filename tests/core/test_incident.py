"""What is told, and when: once at its start, when it grows, and at its end."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.incident import Finding, OpenIncident, Pace, Reason, decide, within

OPEN = OpenIncident("dead_letters", "f", "3 jobs died", 3, 1000.0, told_ago=1000.0)


def found(arrived: int, present: int) -> Finding:
    return Finding("dead_letters", "f", "jobs died", arrived, present)


@pytest.mark.parametrize(
    ("finding", "incident", "reason"),
    [
        (found(3, 3), None, Reason.FIRST),
        (found(1, 0), None, Reason.FIRST),
        (found(0, 3), None, Reason.NOTHING),
        (found(0, 0), None, Reason.NOTHING),
        (found(1, 4), OPEN, Reason.WORSE),
        (found(1, 0), OPEN, Reason.WORSE),
        (found(0, 3), OPEN, Reason.NOTHING),
        (found(0, 0), OPEN, Reason.RESOLVED),
        (None, OPEN, Reason.RESOLVED),
    ],
)
def test_each_combination_has_its_reason(
    finding: Finding | None, incident: OpenIncident | None, reason: Reason
) -> None:
    (decision,) = decide([finding] if finding else [], [incident] if incident else [])
    assert decision.reason is reason


def test_causes_are_kept_apart() -> None:
    other = Finding("dead_letters", "g", "others", 1, 1)
    reasons = {each.key: each.reason for each in decide([other], [OPEN])}
    assert reasons == {"g": Reason.FIRST, "f": Reason.RESOLVED}


STATE = OpenIncident("blind", "q", "cannot be looked at", 1, 5000.0, told_ago=1000.0)
THERE = Finding("blind", "q", "cannot be looked at", 0, 1)


def verdict(finding: Finding | None, incident: OpenIncident | None, **pace: Any) -> tuple[str, str]:
    (decision,) = decide([finding] if finding else [], [incident] if incident else [], Pace(**pace))
    assert decision.why
    return decision.reason.value, decision.action.value


def test_what_is_still_there_is_told_again_less_and_less_often() -> None:
    for repeats, hours in enumerate((1, 4, 16, 24, 24)):
        just_not = replace(STATE, told_ago=hours * 3600.0 - 1, repeats=repeats)
        assert verdict(THERE, just_not) == ("nothing", "none")
        assert verdict(THERE, replace(just_not, told_ago=hours * 3600.0)) == ("repeat", "repeat")


def test_what_arrives_soon_after_it_was_told_waits_and_is_told_together() -> None:
    soon = replace(OPEN, told_ago=10.0)
    assert verdict(found(2, 5), soon) == ("nothing", "worse"), "counted, and not told"
    assert verdict(found(0, 5), replace(soon, untold=2)) == ("nothing", "none")
    assert verdict(found(0, 5), replace(OPEN, untold=2, told_ago=300.0)) == ("worse", "worse")


def test_what_was_taken_on_is_told_when_it_becomes_more_urgent_and_at_its_end() -> None:
    taken = replace(STATE, is_acknowledged=True, told_ago=1e6)
    assert verdict(THERE, taken) == ("nothing", "none")
    assert verdict(replace(THERE, arrived=3), taken) == ("nothing", "worse")
    assert verdict(replace(THERE, level=1), taken) == ("worse", "worse")
    assert verdict(None, replace(taken, clean=1)) == ("resolved", "resolve")


def test_of_what_is_silenced_nothing_is_told_not_even_its_end() -> None:
    silent = replace(STATE, is_silenced=True, told_ago=1e6)
    assert verdict(replace(THERE, arrived=3, level=2), silent) == ("nothing", "worse")
    assert verdict(None, replace(silent, clean=1)) == ("nothing", "resolve")
    assert verdict(THERE, replace(silent, is_silenced=False)) == ("repeat", "repeat")
    assert verdict(replace(THERE, arrived=1), replace(silent, status="resolved")) == ("nothing", "reopen")


def test_one_look_that_finds_nothing_ends_no_state() -> None:
    assert verdict(None, STATE) == ("nothing", "clean")
    assert verdict(THERE, replace(STATE, clean=1)) == ("nothing", "seen")
    assert verdict(None, replace(STATE, clean=1)) == ("resolved", "resolve")


def test_what_comes_back_soon_is_the_same_incident_again() -> None:
    over = replace(STATE, status="resolved")
    assert verdict(replace(THERE, arrived=1), over) == ("first", "reopen")
    assert verdict(None, over) == ("nothing", "none")


def test_what_comes_and_goes_must_stay_over_for_longer_each_time() -> None:
    for reopened, calm in ((1, 60.0), (2, 240.0), (3, 960.0), (4, 3600.0), (9, 3600.0)):
        flaps = replace(STATE, reopened=reopened, clean=5, clean_for=calm - 1)
        assert verdict(None, flaps) == ("nothing", "clean")
        assert verdict(None, replace(flaps, clean_for=calm)) == ("resolved", "resolve")


def test_what_was_not_looked_at_is_not_judged() -> None:
    blind = OpenIncident("blind", "orders-dlq", "cannot be looked at", 1, 60.0)
    assert within([OPEN, blind], {"blind": {"bills-dlq"}}) == [OPEN]
    assert within([OPEN, blind], {"blind": {"orders-dlq"}}) == [OPEN, blind]
    assert within([OPEN, blind], {"blind": ()}) == [OPEN]
