"""What is found of the ledger itself: rescues as they come, the brake, and what stands in the way."""

from typing import Any

from holdfast.core import telling
from holdfast.core.health import Check, Monitor, Status
from holdfast.core.ledger_watch import KEPT_FOR, STRIKES, OldTransaction, Watched, watch


def monitors(*, totals: dict[str, int] | None = None, sweep: dict[str, Any] | None = None) -> list[Monitor]:
    return [
        Monitor("count_events", 5.0, 1.0, False, {"totals": totals or {}}),
        Monitor("rescue_stale_jobs", 5.0, 1.0, False, sweep or {}),
    ]


def test_rescues_since_the_last_look_are_told_and_kept_for_a_while() -> None:
    before, found = watch(Watched(), monitors(totals={"rescue/worker_gone": 7}), None, [])
    assert found == [], "what was before anybody looked is history"
    after, (news,) = watch(before, monitors(totals={"rescue/worker_gone": 9, "crash/worker_gone": 1}), None, [])
    assert (news.kind, news.arrived, news.present) == (telling.RESCUED, 3, 1)
    for _ in range(KEPT_FOR - 1):
        after, (same,) = watch(after, monitors(totals={"rescue/worker_gone": 9, "crash/worker_gone": 1}), None, [])
        assert same.arrived == 0
    assert watch(after, monitors(totals={"rescue/worker_gone": 10}), None, [])[1] == []


def test_a_claim_whose_answer_was_lost_is_no_rescue_to_tell_of() -> None:
    before, _ = watch(Watched(), monitors(), None, [])
    assert watch(before, monitors(totals={"rescue/claim_lost": 5}), None, [])[1] == []


def test_the_brake_and_a_locked_row_are_told_with_who_it_is() -> None:
    holder = {"job": "j-1", "pid": 42, "application": "psql", "state": "idle in transaction"}
    _, (brake, locked) = watch(Watched(), monitors(sweep={"held": {"mass": 5}, "locked_by": [holder]}), None, [])
    assert (brake.kind, brake.title) == (telling.BRAKE, "The brake holds 5 workers back from a rescue")
    assert locked.title == "A job that is due for rescue is held by pid 42 (psql, idle in transaction)"


def test_a_transaction_that_is_open_for_long_is_told_with_its_pid() -> None:
    old = OldTransaction(42, "psql", "idle in transaction", 601.0)
    _, (found,) = watch(Watched(), monitors(), old, [])
    assert (found.kind, found.title) == (telling.TRANSACTION, "A transaction has been open for 10.0 min: pid 42")
    assert watch(Watched(), monitors(), OldTransaction(42, "psql", "active", 599.0), [])[1] == []


def test_a_queue_that_does_not_drain_is_told_when_it_lasts() -> None:
    warns = Check("queues", Status.WARN, "mail: a job has been due for 400 s", {})
    before = Watched()
    for _ in range(STRIKES - 1):
        before, found = watch(before, monitors(), None, [warns])
        assert found == []
    _, (slow,) = watch(Watched.read(before.as_json()), monitors(), None, [warns])
    assert slow.kind == telling.NOT_DRAINING
    passed, found = watch(before, monitors(), None, [])
    assert (passed.slow, found) == ({}, [])
