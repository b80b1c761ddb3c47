"""What is done next with a redrive: at a rate, a canary first, and no further once letters come back."""

from dataclasses import replace
from uuid import UUID

import pytest

from holdfast.core.redrive import LOOK, STEP, WATCH, Change, Redrive, Send, Wait, next_step

BEGUN = Redrive(
    UUID(int=1), "running", "ada", None, 0, 60.0, False, None, 500, 500, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, None
)  # fmt: skip
CHECKING = replace(BEGUN, status="checking", canary=5, waiting=495, sent=5, canary_ago=1.0)


def test_without_a_rate_it_sends_in_steps() -> None:
    assert next_step(BEGUN) == Send(STEP)
    assert next_step(replace(BEGUN, waiting=3, sending=2, sent=495)) == Send(5)


def test_at_a_rate_no_more_is_sent_than_the_time_allows() -> None:
    slow = replace(BEGUN, rate=2.0)
    assert next_step(slow) == Send(1)
    assert next_step(replace(slow, sent=1)) == Wait(0.5)
    assert next_step(replace(slow, sent=1, waiting=499, began_ago=5.0)) == Send(10)
    after_a_pause = replace(slow, sent=300, waiting=200, began_with=300, began_ago=1.0)
    assert next_step(after_a_pause) == Send(3), "what was not sent during a pause is not made up for"


def test_the_canary_is_sent_first_and_waited_for() -> None:
    begun = replace(BEGUN, canary=5)
    assert next_step(begun) == Send(5)
    assert isinstance(next_step(replace(begun, waiting=495, sent=5)), Change)
    assert next_step(CHECKING) == Wait(LOOK)
    well = next_step(replace(CHECKING, sent=0, succeeded=5))
    assert well == Change("go_on", "the first 5 succeeded")
    assert next_step(replace(begun, canary_done=True, waiting=495, succeeded=5)) == Send(STEP)


def test_a_canary_of_which_nothing_is_known_or_that_fails_otherwise_waits_for_somebody() -> None:
    unknown = next_step(replace(CHECKING, sent=2, succeeded=3, canary_ago=60.0))
    assert isinstance(unknown, Change)
    assert unknown.action == "pause"
    other = next_step(replace(CHECKING, sent=0, succeeded=4, returned=1))
    assert other == Change("pause", "1 of the first 5 came back, with another cause")


@pytest.mark.parametrize("status", ["running", "checking", "watching"])
def test_the_same_cause_again_stops_it_at_any_time(status: str) -> None:
    back = replace(CHECKING, status=status, sent=3, returned=2, same=1)
    assert next_step(back) == Change("stop", "1 of 5 came back with the cause that they had")


def test_it_ends_when_all_outcomes_are_known_or_were_waited_for() -> None:
    sent = replace(BEGUN, waiting=0, sent=500)
    assert next_step(sent) == Change("watch", "all is sent; outcomes are awaited")
    watching = replace(sent, status="watching", canary_ago=1.0)
    assert next_step(watching) == Wait(LOOK)
    assert next_step(replace(watching, sent=0, succeeded=500)) == Change("finish", "500 succeeded")
    late = next_step(replace(watching, sent=20, succeeded=480, canary_ago=WATCH))
    assert late == Change("finish", "480 succeeded, 20 sent, outcome not known")
