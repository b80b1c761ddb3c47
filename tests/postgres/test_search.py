"""Jobs by filter in bounded time, actions on all that match, and the audit log that only grows."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.app import new_id
from holdfast.postgres import calls, searching
from holdfast.postgres.audit import AuditRow, Entry, audited, list_audit
from holdfast.postgres.calls import NewJob
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.reads import pause_queues
from holdfast.postgres.searching import JobSearch
from tests.support import Session

ENTRY = Entry("key ada (aaaa)", "operator", "key", "192.0.2.1", "job.cancel", "x", {"why": "test"})


@pytest.fixture
def ledger(database: str):
    made = SyncLedger(database, name="test")
    yield made
    made.close()


def fill(ledger: SyncLedger, many: int, **fields: Any) -> list[UUID]:
    """So many queued jobs, the oldest first."""
    ids = [new_id() for _ in range(many)]
    jobs = [NewJob(id, "q", "k", json.dumps({"user": {"plan": "pro" if n % 2 else "free"}, "n": n}), **fields)
            for n, id in enumerate(ids)]  # fmt: skip
    ledger.call(calls.enqueue_many(jobs))
    return ids


def found(ledger: SyncLedger, wanted: JobSearch, **options: Any) -> searching.FoundPage:
    return ledger.one(searching.search_jobs(wanted, **options))


def test_pages_follow_each_other_without_a_gap_or_a_double(ledger: SyncLedger) -> None:
    ids = fill(ledger, 25)
    first = found(ledger, JobSearch(), limit=10)
    second = found(ledger, JobSearch(), before=first.next, limit=10)
    third = found(ledger, JobSearch(), before=second.next, limit=10)
    assert [job.id for page in (first, second, third) for job in page.jobs] == ids[::-1]
    assert third.next is None


@pytest.mark.parametrize("status", [None, "queued"])
def test_a_filter_finds_what_it_asks_for_and_nothing_else(ledger: SyncLedger, status: str | None) -> None:
    ids = fill(ledger, 10)
    page = found(ledger, JobSearch(status=status, args={"user": {"plan": "pro"}}))
    assert [job.id for job in page.jobs] == ids[1::2][::-1]
    assert found(ledger, JobSearch(status=status, kind="other")).jobs == []
    assert found(ledger, JobSearch(status=status, queue="q", kind="k", args={"n": 3})).jobs[0].id == ids[3]


def test_a_page_that_looked_at_enough_says_how_far_and_the_next_one_goes_on(ledger: SyncLedger) -> None:
    ids = fill(ledger, 30)
    page = found(ledger, JobSearch(args={"n": 2}), most_looked=10)
    assert (page.jobs, page.complete, page.next) == ([], False, ids[20])
    assert page.looked_to is not None
    page = found(ledger, JobSearch(args={"n": 2}), before=page.next, most_looked=20)
    assert [job.id for job in page.jobs] == [ids[2]]


def test_few_of_a_state_are_found_behind_many_others(ledger: SyncLedger, conn: Session) -> None:
    ids = fill(ledger, 30)
    conn.execute("UPDATE holdfast.jobs SET status = 'dead', finished_at = now() WHERE id = %s", [ids[0]])
    page = found(ledger, JobSearch(status="dead"), most_looked=5)
    assert ([job.id for job in page.jobs], page.complete) == ([ids[0]], True)


def begin(ledger: SyncLedger, action: str, wanted: JobSearch) -> UUID:
    matching = ledger.one(searching.count_matching_jobs(wanted))
    id = uuid4()
    ledger.call(searching.begin_bulk_operation(id, action, wanted, actor="test", matching=matching))
    return id


def run(ledger: SyncLedger, id: UUID, **limits: int) -> searching.BulkOperation:
    while ledger.call(searching.step_bulk_operation(**limits)):
        pass
    return ledger.one(searching.list_bulk_operations(id))


def test_an_operation_acts_on_all_that_matched_and_on_nothing_that_came_later(
    ledger: SyncLedger, conn: Session
) -> None:
    fill(ledger, 25)
    id = begin(ledger, "cancel", JobSearch(status="queued", args={"user": {"plan": "pro"}}))
    later = fill(ledger, 3)
    done = run(ledger, id, max_jobs=5, most_looked=7)
    assert (done.status, done.done, done.verdicts, done.expected) == ("done", 12, {"cancelled": 12}, 12)
    counted = conn.execute("SELECT status, count(*) AS n FROM holdfast.jobs GROUP BY 1").fetchall()
    assert {each["status"]: each["n"] for each in counted} == {"cancelled": 12, "queued": 16}
    assert len(found(ledger, JobSearch(status="queued"), limit=100).jobs) == 16
    assert later


def test_what_changed_meanwhile_is_skipped_and_counted(ledger: SyncLedger, conn: Session) -> None:
    ids = fill(ledger, 4, unique_key=None)
    conn.execute("UPDATE holdfast.jobs SET status = 'dead', finished_at = now(), unique_key = 'one'")
    fresh = NewJob(uuid4(), "q", "k", "{}", unique_key="one")
    ledger.call(calls.enqueue_many([fresh]))
    done = run(ledger, begin(ledger, "retry", JobSearch(status="dead")))
    assert done.verdicts == {"unique_taken": 4}
    assert sorted(map(UUID, done.samples["unique_taken"])) == sorted(ids)


def test_an_operation_that_was_cancelled_does_no_more(ledger: SyncLedger, conn: Session) -> None:
    fill(ledger, 20)
    id = begin(ledger, "cancel", JobSearch(status="queued"))
    ledger.call(searching.step_bulk_operation(max_jobs=5))
    assert ledger.call(searching.cancel_bulk_operation(id)) == [(id, 5)]
    assert ledger.call(searching.step_bulk_operation()) == []
    assert ledger.call(searching.cancel_bulk_operation(id)) == []
    assert conn.execute("SELECT count(*) AS n FROM holdfast.jobs WHERE status = 'queued'").fetchone() == {"n": 15}


def test_a_step_that_another_process_makes_is_left_to_it(ledger: SyncLedger, database: str) -> None:
    fill(ledger, 5)
    begin(ledger, "cancel", JobSearch(status="queued"))
    with psycopg.connect(database) as other:
        other.execute("SELECT FROM holdfast.bulk_operations FOR UPDATE")
        assert ledger.call(searching.step_bulk_operation()) == []
    assert ledger.call(searching.step_bulk_operation())


def test_a_change_and_the_note_of_it_are_one(ledger: SyncLedger) -> None:
    (id,) = fill(ledger, 1)
    (verdict,) = ledger.call(audited(calls.cancel_jobs([id]), ENTRY))
    assert verdict.verdict == "cancelled"
    assert ledger.call(audited(pause_queues(["q"], paused=True), ENTRY)) == ["q"]
    second, first = ledger.call(list_audit())
    assert isinstance(first, AuditRow)
    assert (first.actor, first.role, first.address, first.details) == (
        ENTRY.actor, "operator", "192.0.2.1", {"why": "test"},
    )  # fmt: skip
    assert first.outcome == [{"id": str(id), "verdict": "cancelled", "status": "cancelled"}]
    assert second.outcome == [{"name": "q"}]


def test_what_came_to_nothing_is_noted_too(ledger: SyncLedger) -> None:
    assert ledger.call(audited(searching.cancel_bulk_operation(uuid4()), ENTRY)) == []
    assert [line.outcome for line in ledger.call(list_audit())] == [[]]


@pytest.mark.parametrize("text", ["UPDATE holdfast.audit_log SET actor = 'x'", "DELETE FROM holdfast.audit_log",
                                  "TRUNCATE holdfast.audit_log"])  # fmt: skip
def test_the_audit_log_only_grows(ledger: SyncLedger, conn: Session, text: str) -> None:
    ledger.call(audited(calls.cancel_jobs([uuid4()]), ENTRY))
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only grows"):
        conn.execute(text)
    assert len(ledger.call(list_audit())) == 1
