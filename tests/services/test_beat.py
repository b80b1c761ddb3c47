"""The beat tells that a worker lives, and learns what it lost."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.events import LedgerLost, Sinks
from holdfast.postgres.ledger import SyncLedger
from holdfast.services.beat import Beat
from holdfast.services.pulse import Pulse
from tests import support
from tests.services.helpers import Recorder, Relay, until
from tests.support import Row, Session


class Heard:
    """A beat, and everything that it said."""

    def __init__(self, dsn: str, worker_id: UUID) -> None:
        self.held: list[tuple[UUID, int]] = []
        self.said: list[Any] = []
        self.accepted = 0
        self.recorder = Recorder()
        self.pulse = Pulse()
        self.beat = Beat(
            SyncLedger(dsn, deadline=5.0),
            worker_id,
            self.pulse,
            interval=0.05,
            unknown_after=15.0,
            status=lambda: {"loop_lag": 0.25, "running": 3, "draining": True},
            held=lambda: self.held,
            verdicts=lambda found: self.said.extend((each.verdict, each.id, each.lease) for each in found),
            gone=lambda: self.said.append("gone"),
            accepted=self._count,
            sinks=Sinks([self.recorder]),
        )

    def _count(self) -> None:
        self.accepted += 1

    def hold(self, *runs: Row) -> None:
        self.held = [(run["id"], run["lease"]) for run in runs]


@pytest.fixture
def worker_id(conn: Session) -> UUID:
    return support.register(conn)


@pytest.fixture
def listen(worker_id: UUID) -> Iterator[Callable[[str], Heard]]:
    made: list[Heard] = []

    def factory(dsn: str) -> Heard:
        made.append(Heard(dsn, worker_id))
        return made[-1]

    yield factory
    for each in made:
        each.beat.stop()


@pytest.fixture
def heard(listen: Callable[[str], Heard], database: str) -> Heard:
    return listen(database)


def claimed(conn: Session, worker_id: UUID, count: int = 1) -> list[Row]:
    for _ in range(count):
        support.enqueue(conn)
    return support.claim(conn, worker_id, count)


def test_an_accepted_beat_is_on_the_worker_s_row_and_counts_from_when_it_was_sent(
    heard: Heard, conn: Session, worker_id: UUID
) -> None:
    support.advance(conn, timedelta(seconds=7))
    before = support.worker(conn, worker_id)
    heard.pulse.accepted_at -= 100
    assert heard.beat.step()
    after = support.worker(conn, worker_id)
    assert after["seen_at"] - before["seen_at"] >= timedelta(seconds=7)
    assert (after["loop_lag"], after["running"], after["draining"]) == (timedelta(seconds=0.25), 3, True)
    assert heard.pulse.age() < 50
    assert heard.pulse.accepted.is_set()
    assert (heard.said, heard.accepted) == ([], 1)


@pytest.mark.parametrize("registered", [True, False])
def test_a_worker_that_is_gone_or_unknown_hears_it_and_beats_no_more(
    conn: Session, database: str, registered: bool
) -> None:
    worker_id = support.register(conn) if registered else uuid4()
    support.mark_gone(conn, worker_id)
    heard = Heard(database, worker_id)
    at = heard.pulse.accepted_at
    assert not heard.beat.step()
    assert heard.said == ["gone"]
    assert (heard.pulse.accepted_at, heard.accepted) == (at, 0)
    heard.beat.start()
    heard.beat._thread.join(20)
    assert not heard.beat._thread.is_alive()
    heard.beat.stop()


def test_a_lease_that_was_taken_is_told_as_lost(heard: Heard, conn: Session, worker_id: UUID) -> None:
    held, lost = claimed(conn, worker_id, 2)
    support.release_lost_claims(conn, worker_id, lost)
    heard.hold(held, lost)
    assert heard.beat.step()
    assert heard.said == [("lost", lost["id"], lost["lease"])]


def test_a_wanted_cancel_is_told(heard: Heard, conn: Session, worker_id: UUID) -> None:
    wanted, other = claimed(conn, worker_id, 2)
    support.cancel(conn, wanted["id"])
    heard.hold(wanted, other)
    assert heard.beat.step()
    assert heard.said == [("cancel", wanted["id"], wanted["lease"])]


def test_a_claim_that_the_worker_does_not_know_is_told_when_its_answer_can_no_longer_come(
    heard: Heard, conn: Session, worker_id: UUID
) -> None:
    (run,) = claimed(conn, worker_id)
    support.advance(conn, timedelta(seconds=14))
    assert heard.beat.step()
    assert heard.said == []
    support.advance(conn, timedelta(seconds=2))
    assert heard.beat.step()
    assert heard.said == [("unknown", run["id"], run["lease"])]


async def test_beats_go_on_after_an_outage(
    listen: Callable[[str], Heard], relay: Relay, conn: Session, worker_id: UUID
) -> None:
    heard = listen(relay.dsn)
    heard.beat.start()
    await until(lambda: heard.accepted)
    await relay.down()
    await until(lambda: heard.recorder.of(LedgerLost))
    assert {event.what for event in heard.recorder.of(LedgerLost)} == {"beat"}
    lost_at = heard.pulse.accepted_at
    await relay.up()
    await until(lambda: heard.pulse.accepted_at > lost_at)
    assert heard.said == []


async def test_beats_go_on_after_an_error_that_nobody_foresaw(
    listen: Callable[[str], Heard], database: str, conn: Session, worker_id: UUID
) -> None:
    heard = listen(database)
    heard.beat.start()
    await until(lambda: heard.accepted)
    conn.execute("ALTER TABLE holdfast.workers ADD CONSTRAINT odd CHECK (running < 0) NOT VALID")
    await until(lambda: heard.recorder.of(LedgerLost))
    lost_at = heard.pulse.accepted_at
    conn.execute("ALTER TABLE holdfast.workers DROP CONSTRAINT odd")
    await until(lambda: heard.pulse.accepted_at > lost_at)
    assert "odd" in heard.recorder.of(LedgerLost)[0].error
