"""The table of transitions hangs together (that the SQL functions obey it is tested with them)."""

from holdfast.core.job import FINAL, TRANSITIONS, Event, Status


def test_every_status_can_be_reached_and_every_other_but_success_can_be_left() -> None:
    reached = {status for ends in TRANSITIONS.values() for status in ends}
    left = {status for status, _ in TRANSITIONS}
    assert reached == set(Status)
    assert left == set(Status) - {Status.SUCCEEDED}


def test_a_final_status_is_left_by_a_retry_only() -> None:
    assert {event for status, event in TRANSITIONS if status in FINAL} == {Event.RETRY}


def test_a_job_begins_to_run_by_a_claim_only() -> None:
    assert {event for (_, event), ends in TRANSITIONS.items() if Status.RUNNING in ends} == {Event.CLAIM}
