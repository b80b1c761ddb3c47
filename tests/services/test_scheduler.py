"""Periodic jobs on the ledger's clock: one tick over all processes, one after an outage, no overlap unless asked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast import ConfigurationError, Context, Holdfast, InvalidArguments
from holdfast.events import ScheduleFailed, ScheduleTicked, Sinks
from holdfast.postgres import calls
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.scheduler import Scheduler
from tests import support
from tests.services.helpers import Recorder, app_on, until, working
from tests.support import Row, Session

START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def stopped_clock(conn: Session) -> None:
    """The ledger's time is what the test says."""
    conn.execute(
        "CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz LANGUAGE sql VOLATILE"
        " SET search_path = pg_catalog, pg_temp AS $$SELECT timestamptz '2026-03-29 00:30+00' + shift"
        " FROM holdfast_test.clock$$"
    )


def at(conn: Session, moment: datetime) -> None:
    conn.execute("UPDATE holdfast_test.clock SET shift = %s", (moment - START,))


def pass_minutes(conn: Session, minutes: float) -> None:
    support.advance(conn, timedelta(minutes=minutes))


def report_app(database: str, cron: str = "*/5 * * * *", **options: Any) -> Holdfast:
    hf = app_on(database)

    @hf.periodic(cron, **options)
    @hf.job(queue="reports", max_attempts=2)
    async def report() -> None: ...

    return hf


class Process:
    """A scheduler as one process has it."""

    def __init__(self, database: str, hf: Holdfast) -> None:
        self.ledger = AsyncLedger(database)
        self.recorder = Recorder()
        self.scheduler = Scheduler(self.ledger, Sinks([self.recorder]), hf.periodics)

    async def step(self) -> float:
        return await self.scheduler.step()


@pytest.fixture
async def started(database: str) -> AsyncIterator[Any]:
    opened: list[Process] = []

    def start(hf: Holdfast) -> Process:
        opened.append(Process(database, hf))
        return opened[-1]

    yield start
    for process in opened:
        await process.ledger.close()


def jobs(conn: Session) -> list[Row]:
    return support.rows(conn, "SELECT * FROM holdfast.jobs ORDER BY run_at, id")


def due(conn: Session) -> list[str]:
    return [f"{each['run_at'].astimezone(UTC):%H:%M}" for each in jobs(conn)]


def schedule(conn: Session, name: str = "report") -> Row:
    return support.row(conn, "SELECT * FROM holdfast.schedules WHERE name = %s", name)


def finish_all(conn: Session) -> None:
    worker = support.register(conn)
    for run in support.claim(conn, worker, 100, queues=["reports"], kinds=["report"]):
        support.settle(conn, worker, run)


async def test_a_tick_is_a_job_of_its_kind_at_its_time(started: Any, database: str, conn: Session) -> None:
    process = started(report_app(database))
    assert await process.step() == 15
    assert jobs(conn) == []
    pass_minutes(conn, 4.9)
    assert await process.step() == pytest.approx(6)
    pass_minutes(conn, 0.2)
    await process.step()
    (job,) = jobs(conn)
    assert (job["kind"], job["queue"], job["args"], job["max_attempts"]) == ("report", "reports", {}, 2)
    assert due(conn) == ["00:35"]
    (ticked,) = process.recorder.of(ScheduleTicked)
    assert (ticked.name, ticked.verdict, ticked.job_id, ticked.late) == ("report", "enqueued", job["id"], 6.0)
    await process.step()
    assert len(jobs(conn)) == 1


async def test_of_many_processes_one_has_the_tick(started: Any, database: str, conn: Session) -> None:
    processes = [started(report_app(database)) for _ in range(8)]
    for process in processes:
        await process.step()
    for _ in range(5):
        pass_minutes(conn, 5)
        await asyncio.gather(*(process.step() for process in processes))
        finish_all(conn)
    assert due(conn) == ["00:35", "00:40", "00:45", "00:50", "00:55"]


async def test_the_ticks_of_an_outage_are_one_job(started: Any, database: str, conn: Session) -> None:
    process = started(report_app(database))
    await process.step()
    pass_minutes(conn, 63)
    for _ in range(3):
        await process.step()
        finish_all(conn)
    assert due(conn) == ["00:35"]
    assert schedule(conn)["next_at"] == START + timedelta(minutes=65)


async def test_an_unknown_commit_is_no_second_job(started: Any, database: str, conn: Session) -> None:
    hf = report_app(database)
    process = started(hf)
    await process.step()
    pass_minutes(conn, 5)
    seen, after = START + timedelta(minutes=5), START + timedelta(minutes=10)
    call = calls.tick_schedule("report", seen, after, hf.periodics["report"].prepare(seen))
    assert [(await process.ledger.one(call)).verdict for _ in range(2)] == ["enqueued", "lost"]
    assert len(jobs(conn)) == 1


async def test_who_comes_too_late_for_a_tick_has_not_the_next_one_instead(
    started: Any, database: str, conn: Session
) -> None:
    """A process read the schedule, stood still, and goes on when the next tick is due already."""
    hf = report_app(database)
    process = started(hf)
    await process.step()
    pass_minutes(conn, 5)
    seen, after = START + timedelta(minutes=5), START + timedelta(minutes=10)
    late = calls.tick_schedule("report", seen, after, hf.periodics["report"].prepare(seen))
    await process.step()
    finish_all(conn)
    pass_minutes(conn, 5)
    assert (await process.ledger.one(late)).verdict == "lost"
    await process.step()
    assert due(conn) == ["00:35", "00:40"]


async def test_a_tick_passes_while_the_job_before_is_not_done(started: Any, database: str, conn: Session) -> None:
    process = started(report_app(database))
    await process.step()
    for _ in range(3):
        pass_minutes(conn, 5)
        await process.step()
    assert due(conn) == ["00:35"]
    first, *passed = process.recorder.of(ScheduleTicked)
    assert [(each.verdict, each.job_id) for each in passed] == [("overlapped", first.job_id)] * 2
    finish_all(conn)
    pass_minutes(conn, 5)
    await process.step()
    assert due(conn) == ["00:35", "00:50"]


async def test_overlap_may_be_asked_for(started: Any, database: str, conn: Session) -> None:
    process = started(report_app(database, overlap=True))
    await process.step()
    for _ in range(3):
        pass_minutes(conn, 5)
        await process.step()
    assert due(conn) == ["00:35", "00:40", "00:45"]


async def test_a_skipped_hour_is_made_up_for_and_a_repeated_one_counts_once(
    started: Any, database: str, conn: Session
) -> None:
    """Ten processes are awake each ten minutes through both changes of Berlin's clocks."""
    processes = [started(report_app(database, "30 2 * * *", tz="Europe/Berlin")) for _ in range(2)]
    for day in (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)):
        at(conn, day)
        for process in processes:
            await process.step()
        finish_all(conn)
        conn.execute("DELETE FROM holdfast.jobs")
        for _ in range(6 * 24):
            pass_minutes(conn, 10)
            await asyncio.gather(*(process.step() for process in processes))
        assert len(due(conn)) == 1
        assert due(conn) == [{3: "01:00", 10: "00:30"}[day.month]]
        finish_all(conn)


# Who declares it


async def test_a_schedule_that_nobody_declares_any_more_never_ticks(started: Any, database: str, conn: Session) -> None:
    process = started(report_app(database))
    await process.step()
    other = started(report_app(database, name="another"))
    for _ in range(4):
        pass_minutes(conn, 30)
        await other.step()
        finish_all(conn)
    assert schedule(conn)["last_at"] is None
    assert schedule(conn, "another")["last_at"] is not None


async def test_a_new_definition_is_taken_over_at_its_start_and_the_old_program_leaves_it_alone(
    started: Any, database: str, conn: Session
) -> None:
    old, new = started(report_app(database)), started(report_app(database, "0 * * * *"))
    await old.step()
    await new.step()
    assert (schedule(conn)["cron"], schedule(conn)["next_at"]) == ("0 * * * *", START + timedelta(minutes=30))
    pass_minutes(conn, 10)
    await new.step()
    assert await old.step() == 15
    assert schedule(conn)["cron"] == "0 * * * *"
    assert jobs(conn) == []
    pass_minutes(conn, 20)
    await new.step()
    await old.step()
    assert due(conn) == ["01:00"]


async def test_the_last_who_declare_it_take_it_over_from_a_program_that_is_gone(
    started: Any, database: str, conn: Session
) -> None:
    """An old program was started again in the middle of a deployment, and then ended."""
    new, old = started(report_app(database, "0 * * * *")), started(report_app(database))
    await new.step()
    await old.step()
    assert schedule(conn)["cron"] == "*/5 * * * *"
    pass_minutes(conn, 0.9)
    await new.step()
    assert schedule(conn)["cron"] == "*/5 * * * *"
    pass_minutes(conn, 0.2)
    await new.step()
    assert (schedule(conn)["cron"], schedule(conn)["next_at"]) == ("0 * * * *", START + timedelta(minutes=30))


async def test_a_paused_schedule_does_not_tick(started: Any, database: str, conn: Session) -> None:
    process = started(report_app(database))
    await process.step()
    conn.execute("UPDATE holdfast.schedules SET paused = true")
    pass_minutes(conn, 5)
    await process.step()
    assert jobs(conn) == []


async def test_a_job_that_cannot_be_made_keeps_no_other_schedule_from_its_tick(
    started: Any, database: str, conn: Session
) -> None:
    hf = report_app(database)

    known = {"ann": "Ann"}

    @hf.job(queue="reports", unique=lambda to: known[to])
    def failing(to: str) -> None: ...

    hf.periodic("*/5 * * * *", name="a broken one", arguments={"to": "ann"})(failing)
    known.clear()
    process = started(hf)
    await process.step()
    pass_minutes(conn, 5)
    assert await process.step() == 15
    assert [each["kind"] for each in jobs(conn)] == ["report"]
    (failed,) = process.recorder.of(ScheduleFailed)
    assert (failed.name, failed.error) == ("a broken one", "KeyError: 'ann'")


# Declaring


def test_the_handler_s_arguments_are_given_with_the_schedule() -> None:
    hf = Holdfast()

    @hf.periodic("0 7 * * *", tz="Asia/Tokyo", tick_as="day", arguments={"to": "ann"})
    @hf.job()
    async def report(to: str, day: datetime, copies: int = 2) -> None: ...

    tick = datetime(2026, 5, 1, 22, tzinfo=UTC)
    prepared = hf.periodics["report"].prepare(tick)
    assert prepared.args == '{"to":"ann","day":"2026-05-02T07:00:00+09:00","copies":2}'
    assert hf.periodics["report"].schedule.args == {"to": "ann", "copies": 2}


def test_a_plain_function_becomes_a_job_too() -> None:
    hf = Holdfast()

    @hf.periodic("* * * * *")
    def poll(ctx: Context) -> None: ...

    assert (list(hf.kinds), list(hf.periodics)) == (["poll"], ["poll"])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"cron": "* * *"}, "cron is '\\* \\* \\*'"),
        ({"tz": "Mars"}, "tz is 'Mars'"),
        ({"arguments": {"to": 3}}, "schedule 'report': report: to: Input should be a valid string, got 3; give the"),
        ({"arguments": {}}, "missing a required argument: 'to'"),
        ({"tick_as": "when"}, "unexpected keyword argument 'when'"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_declared(given: dict[str, Any], complaint: str) -> None:
    hf = Holdfast()
    options = {"cron": "* * * * *", "arguments": {"to": "ann"}, **given}
    with pytest.raises(ConfigurationError, match=complaint) as caught:

        @hf.periodic(**options)
        @hf.job()
        def report(to: str) -> None: ...

    assert not isinstance(caught.value, InvalidArguments)
    assert hf.periodics == {}


def test_two_schedules_of_one_name_are_refused() -> None:
    hf = Holdfast()

    @hf.periodic("0 1 * * *", name="night")
    @hf.periodic("0 13 * * *", name="day")
    @hf.job()
    def report() -> None: ...

    assert sorted(hf.periodics) == ["day", "night"]
    with pytest.raises(ConfigurationError, match="two schedules are called 'day'; give one of them another name"):
        hf.periodic("0 2 * * *", name="day")(report)


async def test_a_worker_ticks_for_its_own_program(database: str, conn: Session) -> None:
    ran: list[datetime] = []
    hf = app_on(database)

    @hf.periodic("*/5 * * * *", tick_as="tick")
    @hf.job()
    async def report(tick: datetime) -> None:
        ran.append(tick)

    at(conn, START + timedelta(minutes=4, seconds=59.8))
    async with working(database, hf, sweep=True) as running:
        await until(lambda: support.rows(conn, "SELECT FROM holdfast.schedules"))
        pass_minutes(conn, 1)
        await until(lambda: ran)
        assert running.recorder.of(ScheduleTicked)
    assert ran == [START + timedelta(minutes=5)]
