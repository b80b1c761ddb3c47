"""When to claim, and how many."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.pacing import ClaimPlan, plan_claim

numbers = st.integers(-5, 200)
seconds = st.floats(0, 100)


def plan(
    *, free_slots: int = 5, batch: int = 100, last_was_full: bool = False, rung: bool = False, since_claim: float = 0.0
) -> ClaimPlan:
    return plan_claim(
        free_slots=free_slots, batch=batch, last_was_full=last_was_full, rung=rung, since_claim=since_claim, poll=1.0
    )


@given(numbers, st.integers(1, 100), st.booleans(), st.booleans(), seconds)
def test_never_more_is_asked_for_than_there_are_free_slots(
    free: int, batch: int, full: bool, rung: bool, since: float
) -> None:
    made = plan(free_slots=free, batch=batch, last_was_full=full, rung=rung, since_claim=since)
    assert 0 <= made.ask <= max(free, 0)
    assert made.ask <= batch


@given(st.integers(1, 200), st.booleans(), st.booleans(), seconds)
def test_a_worker_with_room_asks_or_knows_how_long_to_wait(free: int, full: bool, rung: bool, since: float) -> None:
    made = plan(free_slots=free, last_was_full=full, rung=rung, since_claim=since)
    assert made.wait is not None
    assert (made.ask > 0) == (rung or full or since >= 1.0)
    assert made.ask > 0 or 0 < made.wait <= 1.0


def test_without_a_free_slot_nothing_is_asked_even_when_the_bell_rings() -> None:
    assert plan(free_slots=0, rung=True, last_was_full=True, since_claim=99) == ClaimPlan(0, None)


def test_a_bell_is_answered_at_once() -> None:
    assert plan(rung=True) == ClaimPlan(5, 0.0)


def test_a_full_answer_is_followed_by_the_next_claim_at_once() -> None:
    assert plan(last_was_full=True) == ClaimPlan(5, 0.0)


def test_an_idle_worker_waits_for_what_is_left_of_the_poll_interval() -> None:
    assert plan(since_claim=0.75) == ClaimPlan(0, 0.25)


def test_an_idle_worker_polls_without_a_bell() -> None:
    assert plan(since_claim=1.0) == ClaimPlan(5, 0.0)


def test_a_batch_bounds_one_claim() -> None:
    assert plan(free_slots=500, batch=100, rung=True).ask == 100
