"""The checker of the comparison with peers finds what it is there to find, for all systems alike."""

from dataclasses import replace
from typing import Any

from bench.faults.checker import Events, Hit, Note, judge

FAULT = 100.0


def run(job: str, begin: float, end: float | None, *, pid: int = 1, what: str = "end") -> list[Note]:
    name = f"{job} at {begin:g}"
    return [Note(job, name, pid, "begin", begin), *([] if end is None else [Note(job, name, pid, what, end)])]


def events(*jobs: str, **what: Any) -> Events:
    return replace(Events(FAULT, FAULT + 1, FAULT + 150, jobs or ("a",)), **what)


def test_a_job_that_ran_once_to_its_end_is_no_finding() -> None:
    found = judge(run("a", 99, 100.5), events())
    assert (found.lost, found.overlaps, found.twice, found.stuck, found.late_writes) == (0, 0, 0, 0, 0)
    assert found.all_ended == 0.5


def test_a_job_that_never_ended_is_lost_and_forgotten_where_the_ledger_does_not_hold_it_either() -> None:
    notes = [*run("a", 99, None), *run("b", 99, 101, what="cut"), *run("d", 99, 101)]
    found = judge(notes, events("a", "b", "c", "d", unfinished={"a", "c"}))
    assert (found.lost, found.forgotten, found.stuck, found.all_ended) == (3, 1, 0, None)


def test_a_job_that_ended_and_that_the_ledger_still_holds_is_stuck() -> None:
    assert judge(run("a", 99, 101), events(unfinished={"a"})).stuck == 1


def test_what_a_killed_worker_held_is_timed_until_its_next_run() -> None:
    held = [each for job in ("a", "b", "c") for each in run(job, 99, None)]
    notes = [*held, *run("a", 130, 131, pid=2), *run("c", 105, 106, pid=2)]
    hits = [Hit(job, f"{job} at 99", FAULT) for job in ("a", "b", "c")]
    found = judge(notes, events("a", "b", "c", hits=hits, deaths={1: FAULT}))
    assert (found.hit, found.again, found.not_again, found.lost) == (3, 30.0, 1, 1)
    assert found.overlaps == 0


def test_a_frozen_run_that_goes_on_to_its_end_was_never_taken() -> None:
    found = judge(run("a", 99, 160), events(hits=[Hit("a", "a at 99", FAULT)], frozen={1: (FAULT, 160.0)}))
    assert (found.again, found.not_again, found.overlaps) == (0.0, 0, 0)


def test_two_runs_at_once_are_an_overlap() -> None:
    assert judge([*run("a", 99, 101), *run("a", 100, 103, pid=2)], events()).overlaps == 1
    assert judge([*run("a", 99, None), *run("a", 100, None, pid=2)], events()).overlaps == 1


def test_one_run_after_the_other_is_twice_and_no_overlap() -> None:
    found = judge([*run("a", 99, 101), *run("a", 130, 131, pid=2)], events())
    assert (found.twice, found.overlaps) == (1, 0)


def test_a_process_is_at_nothing_while_it_is_frozen_but_what_it_ends_afterwards_counts() -> None:
    frozen = {1: (FAULT, 160.0)}
    again = run("a", 130, 185, pid=2)
    died = judge([*run("a", 99, None), *again], events(frozen=frozen, deaths={1: 160.1}))
    ended = judge([*run("a", 99, 160.05), *again], events(frozen=frozen))
    lived = judge([*run("a", 99, None), *again], events(frozen=frozen, deaths={1: 170.0}))
    assert (died.overlaps, ended.overlaps, lived.overlaps) == (0, 1, 1)


def test_a_late_write_that_was_taken_is_counted_once_a_job() -> None:
    assert judge(run("a", 99, 101), events(finished_early=["a", "a"])).late_writes == 1


def test_work_that_goes_on_when_the_fault_is_over_is_timed_from_its_beginning() -> None:
    notes = [*run("a", 99, 101), *run("b", 100.5, 101.5), *run("c", 103, 104)]
    assert judge(notes, events("a", "b", "c")).resumed == 3.0
    assert judge(run("a", 99, 101), events()).resumed is None
