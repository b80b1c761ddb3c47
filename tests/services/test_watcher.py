"""The watcher over tables of somebody else, with a real ledger and a real SQS server."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from holdfast.app import new_id
from holdfast.core.incident import Pace
from holdfast.core.watch import Watch, parse_watch
from holdfast.errors import QueueUnavailable
from holdfast.events import IncidentChanged, Sinks, WatchedRowRescued, WatchedTableLost
from holdfast.postgres.health import health_part
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.watches import examine_watch, list_watches
from holdfast.services.watcher import Looked, Watcher
from holdfast.sqs.client import Sqs
from tests.services.helpers import Recorder
from tests.sqs.local import LocalSqs
from tests.support import Session, advance, row, rows, seconds

TABLE = """
CREATE TABLE jobs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), status text NOT NULL, heartbeat_at timestamptz,
    started_at timestamptz, tenant text DEFAULT 'acme', note text DEFAULT 'untouched', version int NOT NULL DEFAULT 1);
CREATE INDEX jobs_running ON jobs (id) WHERE status = 'processing';
"""
GIVEN: dict[str, Any] = {
    "table": "jobs", "heartbeat": "heartbeat_at", "running": ["processing"], "queued": "pending", "failed": "failed",
    "action": "requeue", "stale_after": 600,
}  # fmt: skip


#: Names and values that must be quoted.
ODD = (
    'CREATE SCHEMA "My Schema"',
    """CREATE TYPE "My Schema"."State" AS ENUM ('To Do', 'It''s "on"', 'broken %s')""",
    'CREATE TABLE "My Schema"."Jobs %s"'
    ' ("Id ""x""" bigint PRIMARY KEY, "St%ate" "My Schema"."State", "be at" timestamp)',
    """INSERT INTO "My Schema"."Jobs %s" SELECT n, 'It''s "on"', (holdfast.clock() - make_interval(mins => n::int * 20))
       AT TIME ZONE 'Asia/Tokyo' FROM generate_series(0, 1) AS n""",
    "CREATE TABLE numbered (id int PRIMARY KEY, state smallint, at timestamptz)",
    "INSERT INTO numbered VALUES (1, 2, holdfast.clock() - interval '1 hour')",
)


@pytest.fixture
def conn(conn: Session) -> Session:
    """The tests' role is called as the ledger's schema is, which then comes before public."""
    conn.execute("SET search_path = public")
    return conn


@pytest.fixture
async def queue(sqs: LocalSqs) -> AsyncIterator[str]:
    client = Sqs(sqs.url("any"))
    yield await client.create(f"legacy-{uuid4().hex[:8]}", {}, {})
    await client.close()


@pytest.fixture
def jobs(conn: Session) -> Session:
    conn.execute(TABLE.encode())
    return conn


@asynccontextmanager
async def watching(database: str, *watches: Watch) -> AsyncIterator[tuple[Watcher, Recorder]]:
    recorder, ledger = Recorder(), AsyncLedger(database)
    pace = Pace(group_wait=0.0, group_interval=0.0, calm=0.0)
    made = Watcher(ledger, watches, ["log"], Sinks([recorder]), interval=5.0, new_id=new_id, pace=pace)
    try:
        yield made, recorder
    finally:
        await made.sender.close()
        await ledger.close()


def add(conn: Session, status: str = "processing", silent: float | None = 700, **columns: Any) -> str:
    names = ["status", *columns]
    values = [status, *columns.values()]
    text = f"INSERT INTO jobs ({', '.join(names)}, heartbeat_at) VALUES ({', '.join(['%s'] * len(names))},"
    text += " holdfast.clock() - %s::interval) RETURNING id::text"
    return str(row(conn, text, *values, None if silent is None else seconds(silent))["id"])


def statuses(conn: Session) -> dict[str, str]:
    return {each["id"]: each["status"] for each in rows(conn, "SELECT id::text, status FROM jobs")}


async def messages(url: str) -> list[Any]:
    client, found = Sqs(url), list[Any]()
    try:
        while batch := await client.receive(url):
            found += [json.loads(each.body) for each in batch]
            await client.delete(url, [each.receipt for each in batch])
        return found
    finally:
        await client.close()


async def test_a_silent_row_is_queued_again_and_its_message_sent_and_nothing_else_touched(
    database: str, jobs: Session, queue: str
) -> None:
    stuck, alive, done = add(jobs), add(jobs, silent=60), add(jobs, "succeeded", silent=90_000)
    before = {each["id"]: each for each in rows(jobs, "SELECT * FROM jobs")}
    watch = parse_watch({**GIVEN, "queue_url": queue, "message": {"job_id": "{id}", "tenant": "{tenant}"}})
    async with watching(database, watch) as (watcher, recorder):
        await watcher.step()
    assert statuses(jobs) == {stuck: "pending", alive: "processing", done: "succeeded"}
    after = rows(jobs, "SELECT * FROM jobs")
    assert {each["id"]: {**each, "status": before[each["id"]]["status"]} for each in after} == before, (
        "of the stuck row the status alone was changed"
    )
    assert await messages(queue) == [{"job_id": stuck, "tenant": "acme"}]
    (event,) = recorder.of(WatchedRowRescued)
    assert (event.row_id, event.from_status, event.to_status) == (stuck, "processing", "pending")
    assert "1 row of jobs got stuck, now pending again" in [each.title for each in recorder.of(IncidentChanged)]


async def test_two_watchers_send_one_message(database: str, jobs: Session, queue: str) -> None:
    for _ in range(20):
        add(jobs)
    watch = parse_watch({**GIVEN, "queue_url": queue})
    async with watching(database, watch) as (one, _), watching(database, watch) as (other, _):
        await one.step(everything=True)
        await other.step(everything=True)
    assert len(await messages(queue)) == 20
    assert set(statuses(jobs).values()) == {"pending"}


@pytest.mark.parametrize(
    "meanwhile",
    ["UPDATE jobs SET heartbeat_at = holdfast.clock()", "UPDATE jobs SET status = 'succeeded'", "DELETE FROM jobs"],
)
async def test_a_row_that_lives_on_between_look_and_write_is_left(
    database: str, jobs: Session, queue: str, meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(jobs)
    async with watching(database, parse_watch({**GIVEN, "queue_url": queue})) as (watcher, _):
        call = watcher._ledger.call

        async def race(given: Any, **options: Any) -> Any:
            if given.name == "rescue_watched":
                jobs.execute(meanwhile.encode())
            return await call(given, **options)

        monkeypatch.setattr(watcher._ledger, "call", race)
        looks = await watcher.step()
        assert isinstance(looks["jobs"], Looked)
        assert looks["jobs"].rescues == []
    assert await messages(queue) == []
    assert "pending" not in statuses(jobs).values()
    assert rows(jobs, "SELECT * FROM holdfast.watch_rescues") == []


async def test_a_row_that_is_locked_is_left_and_delays_no_other(database: str, jobs: Session, queue: str) -> None:
    locked, free = add(jobs), add(jobs)
    with psycopg.connect(database) as holder:
        holder.execute("SELECT FROM public.jobs WHERE id = %s FOR UPDATE", (locked,))
        async with watching(database, parse_watch({**GIVEN, "queue_url": queue})) as (watcher, _):
            await watcher.step()
    assert statuses(jobs) == {locked: "processing", free: "pending"}


async def test_a_row_that_gets_stuck_again_and_again_is_failed_in_the_end(
    database: str, jobs: Session, queue: str
) -> None:
    stuck = add(jobs)
    watch = parse_watch({**GIVEN, "queue_url": queue, "max_rescues": 2})
    async with watching(database, watch) as (watcher, recorder):
        seen = []
        for _ in range(4):
            await watcher.step(everything=True)
            seen.append(statuses(jobs)[stuck])
            jobs.execute("UPDATE jobs SET status = 'processing' WHERE status = 'pending'")
            advance(jobs, seconds(700))
    assert seen == ["pending", "pending", "failed", "failed"]
    assert len(await messages(queue)) == 2
    assert "1 row of jobs got stuck too often, now failed" in [each.title for each in recorder.of(IncidentChanged)]


async def test_a_worker_that_claims_without_a_heartbeat_is_given_its_time(
    database: str, jobs: Session, queue: str
) -> None:
    stuck = add(jobs)
    async with watching(database, parse_watch({**GIVEN, "queue_url": queue})) as (watcher, _):
        await watcher.step(everything=True)
        jobs.execute("UPDATE jobs SET status = 'processing'")
        advance(jobs, seconds(500))
        await watcher.step(everything=True)
        assert statuses(jobs) == {stuck: "processing"}
        advance(jobs, seconds(200))
        await watcher.step(everything=True)
    assert statuses(jobs) == {stuck: "pending"}


async def test_a_row_that_was_taken_back_and_claimed_since_the_look_is_left(
    database: str, jobs: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = add(jobs)
    watch = parse_watch({**GIVEN, "action": "mark"})
    async with watching(database, watch) as (watcher, _):
        call = watcher._ledger.call

        async def slow(given: Any, **options: Any) -> Any:
            if given.name == "rescue_watched":
                monkeypatch.undo()
                async with watching(database, watch) as (quicker, _):
                    await quicker.step(everything=True)
                jobs.execute("UPDATE jobs SET status = 'processing'")
            return await call(given, **options)

        monkeypatch.setattr(watcher._ledger, "call", slow)
        (looked,) = (await watcher.step(everything=True)).values()
    assert isinstance(looked, Looked)
    assert not looked.rescues
    assert statuses(jobs) == {stuck: "processing"}


async def test_while_sqs_is_away_rows_are_queued_and_messages_wait_and_people_are_told(
    database: str, jobs: Session, queue: str
) -> None:
    add(jobs)
    away = "http://127.0.0.1:9/000000000000/legacy"
    async with watching(database, parse_watch({**GIVEN, "queue_url": away})) as (watcher, recorder):
        await watcher.step()
        await watcher.step(everything=True)
    assert set(statuses(jobs).values()) == {"pending"}
    assert "1 message for rescued rows of jobs cannot be sent" in [each.title for each in recorder.of(IncidentChanged)]
    jobs.execute("UPDATE holdfast.watch_rescues SET queue_url = %s", (queue,))
    advance(jobs, seconds(60))
    async with watching(database, parse_watch({**GIVEN, "queue_url": queue})) as (watcher, _):
        await watcher.step(everything=True)
    assert len(await messages(queue)) == 1


async def test_a_queue_that_hangs_is_asked_once_a_step_and_no_table_waits_for_it(
    database: str, jobs: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, hangs = list[int](), asyncio.Event()

    async def silent(self: Sqs, url: str, entries: Any) -> dict[str, str]:
        asked.append(len(entries))
        if len(asked) > 1:
            hangs.set()
            await asyncio.Event().wait()
        raise QueueUnavailable("SQS does not answer")

    monkeypatch.setattr(Sqs, "send_entries", silent)
    for _ in range(25):
        add(jobs)
    async with watching(database, parse_watch({**GIVEN, "queue_url": "http://127.0.0.1:9/1/q"})) as (watcher, _):
        watcher._interval = 1.0
        await watcher.step(everything=True)
        assert asked == [10]
        assert {each["error"] for each in rows(jobs, "SELECT error FROM holdfast.watch_rescues")} == {
            "SQS does not answer"
        }
        advance(jobs, seconds(6))
        running = asyncio.create_task(watcher.run())
        await asyncio.wait_for(hangs.wait(), 10)
        stuck = add(jobs)
        advance(jobs, seconds(6))
        async with asyncio.timeout(10):
            while statuses(jobs)[stuck] != "pending":
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_process_that_dies_after_sqs_has_answered_leaves_its_message_to_be_sent_again(
    database: str, jobs: Session, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = add(jobs)
    watch = parse_watch({**GIVEN, "queue_url": queue})
    async with watching(database, watch) as (watcher, _):
        call = watcher._ledger.call

        async def dies(given: Any, **options: Any) -> Any:
            if given.name == "settle_watch_messages":
                raise asyncio.CancelledError
            return await call(given, **options)

        monkeypatch.setattr(watcher._ledger, "call", dies)
        with pytest.raises(asyncio.CancelledError):
            await watcher.step()
    assert [each["id"] for each in await messages(queue)] == [stuck]
    async with watching(database, watch) as (other, _):
        await other.step(everything=True)
        assert await messages(queue) == [], "whoever took it has a minute"
        advance(jobs, seconds(61))
        await other.step(everything=True)
        await other.step(everything=True)
    assert [each["id"] for each in await messages(queue)] == [stuck]


async def test_a_fifo_queue_gets_each_message_in_its_group(database: str, jobs: Session, sqs: LocalSqs) -> None:
    client = Sqs(sqs.url("any"))
    url = await client.create(f"legacy-{uuid4().hex[:8]}.fifo", {"FifoQueue": "true"}, {})
    stuck = [add(jobs), add(jobs)]
    watch = parse_watch({**GIVEN, "queue_url": url, "group": "{tenant}"})
    async with watching(database, watch) as (watcher, _):
        await watcher.step()
    found = await client.receive(url)
    await client.close()
    assert sorted(json.loads(each.body)["id"] for each in found) == sorted(stuck)
    assert {each.original["system"]["MessageGroupId"] for each in found} == {"acme"}


async def test_mark_and_alert_send_nothing(database: str, jobs: Session) -> None:
    stuck = add(jobs)
    async with watching(database, parse_watch({**GIVEN, "action": "alert"})) as (watcher, recorder):
        await watcher.step()
        assert statuses(jobs) == {stuck: "processing"}
        assert [each.title for each in recorder.of(IncidentChanged)] == ["1 row of jobs stuck"]
    async with watching(database, parse_watch({**GIVEN, "action": "mark"})) as (watcher, _):
        await watcher.step(everything=True)
    assert statuses(jobs) == {stuck: "pending"}
    assert [each["queue_url"] for each in rows(jobs, "SELECT queue_url FROM holdfast.watch_rescues")] == [None]


async def test_without_a_heartbeat_the_time_of_the_start_counts_where_it_is_named(database: str, jobs: Session) -> None:
    long_ago, just_now = add(jobs, silent=None), add(jobs, silent=None)
    for id, age in ((long_ago, 700), (just_now, 60)):
        jobs.execute("UPDATE jobs SET started_at = holdfast.clock() - %s WHERE id = %s", (seconds(age), id))
    async with watching(database, parse_watch({**GIVEN, "action": "mark"})) as (watcher, _):
        await watcher.step()
        assert set(statuses(jobs).values()) == {"processing"}
    async with watching(database, parse_watch({**GIVEN, "action": "mark", "since": "started_at"})) as (watcher, _):
        await watcher.step(everything=True)
    assert statuses(jobs) == {long_ago: "pending", just_now: "processing"}


async def test_enums_numbers_quoted_names_and_times_without_a_zone(database: str, conn: Session) -> None:
    for text in ODD:
        conn.execute(text.encode())
    odd = parse_watch(
        {"table": '"My Schema"."Jobs %s"', "id": 'Id "x"', "status": "St%ate", "heartbeat": "be at",
         "running": ['It\'s "on"'], "queued": "To Do", "failed": "broken %s", "action": "mark",
         "time_zone": "Asia/Tokyo"}
    )  # fmt: skip
    numbered = parse_watch(
        {"table": "numbered", "status": "state", "heartbeat": "at", "running": [2], "queued": 1, "failed": 3,
         "action": "mark"}
    )  # fmt: skip
    async with watching(database, odd, numbered) as (watcher, recorder):
        await watcher.step()
    assert recorder.of(WatchedTableLost) == []
    found = rows(conn, 'SELECT "St%ate"::text AS state FROM "My Schema"."Jobs %s" ORDER BY 1')
    assert [each["state"] for each in found] == ['It\'s "on"', "To Do"]
    assert rows(conn, "SELECT state FROM numbered") == [{"state": 1}]


async def problems(database: str, **changes: Any) -> list[tuple[str, str]]:
    ledger = AsyncLedger(database)
    try:
        found = await ledger.call(examine_watch(parse_watch({**GIVEN, "action": "mark", **changes})))
    finally:
        await ledger.close()
    return [(each.level, f"{each.problem}: {each.advice}") for each in found]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"table": "jops"}, "there is no table public.jops"),
        ({"table": "holdfast.jobs"}, "holdfast.jobs is no table of yours"),
        ({"table": "seen"}, "public.seen is a view: of a view people can only be told"),
        ({"table": "jobs_running"}, "public.jobs_running is no table of yours"),
        ({"heartbeat": "beat"}, "public.jobs has no column beat (heartbeat): it has id, status, heartbeat_at"),
        ({"heartbeat": "note"}, "public.jobs.note (heartbeat) is of type text: it must be timestamp"),
        ({"id": "tenant"}, "public.jobs.tenant (id) is not unique by itself"),
        ({"status": "started_at"}, "(status) is of type timestamp with time zone"),
        ({"status": "version"}, "'processing' is no value of public.jobs.version, which is of type integer"),
        ({"time_zone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone"),
    ],
)
async def test_what_does_not_fit_is_told_with_the_way_out(
    database: str, jobs: Session, changes: dict[str, Any], told: str
) -> None:
    jobs.execute("CREATE VIEW seen AS SELECT * FROM jobs")
    found = await problems(database, **changes)
    assert any(level == "error" and told in text for level, text in found), found


async def test_an_enum_that_lacks_a_value_is_told(database: str, conn: Session) -> None:
    conn.execute(b"CREATE TYPE state AS ENUM ('pending', 'processing')")
    conn.execute(b"CREATE TABLE jobs (id int PRIMARY KEY, status state, heartbeat_at timestamptz)")
    (found, *_) = await problems(database)
    assert found == ("error", "'failed' is no value of the enum public.state: it has pending, processing")


async def test_a_missing_index_is_told_with_a_statement_that_mends_it(database: str, jobs: Session) -> None:
    assert await problems(database) == []
    jobs.execute("DROP INDEX jobs_running; CREATE INDEX beats ON jobs (heartbeat_at)")
    ((level, told),) = await problems(database)
    assert level == "warn"
    assert "each look reads the whole table" in told
    statement = told.partition(": each look")[2].partition(": ")[2]
    assert statement.startswith("CREATE INDEX CONCURRENTLY jobs_running ON public.jobs (id) WHERE status = ANY")
    jobs.execute(statement.encode())
    assert await problems(database) == []
    jobs.execute("DROP INDEX jobs_running; CREATE INDEX by_status ON jobs (status, tenant)")
    assert await problems(database) == []


@contextmanager
def role(conn: Session, database: str) -> Iterator[str]:
    """A login that may use the schema holdfast, and nothing else; its DSN."""
    name = "watcher_of_tests"
    conn.execute(f"CREATE ROLE {name} LOGIN; GRANT holdfast_app TO {name}".encode())
    conn.execute(
        f"GRANT USAGE ON SCHEMA holdfast_test TO {name}; GRANT SELECT ON holdfast_test.clock TO {name}".encode()
    )
    try:
        yield f"{database} user={name}"
    finally:
        conn.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


async def test_rights_and_row_security_are_told_with_their_statements(database: str, jobs: Session) -> None:
    with role(jobs, database) as dsn:
        told = [text for _, text in await problems(dsn)]
        statements = [text.partition(": ")[2] for text in told]
        assert "GRANT SELECT (id) ON public.jobs TO watcher_of_tests" in statements
        assert "GRANT UPDATE (status) ON public.jobs TO watcher_of_tests" in statements
        for statement in statements:
            jobs.execute(statement.encode())
        assert [text for _, text in await problems(dsn)] == []
        add(jobs)
        async with watching(dsn, parse_watch({**GIVEN, "action": "mark"})) as (watcher, _):
            await watcher.step()
        assert set(statuses(jobs).values()) == {"pending"}, "no more rights are needed than these"
        jobs.execute("ALTER TABLE jobs ENABLE ROW LEVEL SECURITY")
        ((_, hidden),) = await problems(dsn)
        assert hidden.startswith("row level security hides rows of public.jobs from watcher_of_tests")
        jobs.execute(hidden.partition(": ")[2].encode())
        assert await problems(dsn) == [], "the statement is the way out"
        jobs.execute("UPDATE jobs SET status = 'processing'")
        jobs.execute("DELETE FROM holdfast.watch_rescues")
        async with watching(dsn, parse_watch({**GIVEN, "action": "mark"})) as (watcher, _):
            await watcher.step(everything=True)
        assert set(statuses(jobs).values()) == {"pending"}
        jobs.execute("CREATE POLICY tenants ON jobs AS RESTRICTIVE USING (tenant = 'none')")
        ((_, restricted),) = await problems(dsn)
        assert restricted.endswith("ALTER ROLE watcher_of_tests BYPASSRLS")


async def test_a_table_that_is_gone_is_an_incident_and_stops_no_other(database: str, jobs: Session) -> None:
    stuck = add(jobs)
    gone = parse_watch({**GIVEN, "action": "mark", "table": "gone", "name": "gone"})
    async with watching(database, gone, parse_watch({**GIVEN, "action": "mark"})) as (watcher, recorder):
        await watcher.step()
        assert statuses(jobs) == {stuck: "pending"}
        assert "Table gone cannot be looked at" in [each.title for each in recorder.of(IncidentChanged)]
        ledger = AsyncLedger(database)
        (part,) = await ledger.call(health_part("stale", 600.0))
        line, *_ = await ledger.call(list_watches())
        await ledger.close()
    assert "there is no table public.gone" in (line.problem or "")
    assert {each.name: (each.stale, each.rescued) for each in part["watches"]} == {"gone": (0, 0), "jobs": (0, 1)}


@pytest.mark.parametrize("at", ["find_watched", "rescue_watched"])
async def test_a_table_that_goes_in_the_middle_of_a_look_is_told_as_one(
    database: str, jobs: Session, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    add(jobs)
    async with watching(database, parse_watch({**GIVEN, "action": "mark"})) as (watcher, recorder):
        call = watcher._ledger.call

        async def race(given: Any, **options: Any) -> Any:
            if given.name == at:
                jobs.execute("DROP TABLE jobs")
            return await call(given, **options)

        monkeypatch.setattr(watcher._ledger, "call", race)
        await watcher.step()
    (lost,) = recorder.of(WatchedTableLost)
    assert "table public.jobs is not there any more" in lost.why


async def test_what_is_open_about_a_watch_that_was_taken_out_is_over(database: str, jobs: Session) -> None:
    add(jobs)
    async with watching(database, parse_watch({**GIVEN, "action": "alert"})) as (watcher, _):
        await watcher.step()
    advance(jobs, seconds(90_000))
    jobs.execute("CREATE TABLE others AS SELECT * FROM jobs WHERE false; ALTER TABLE others ADD PRIMARY KEY (id)")
    async with watching(database, parse_watch({**GIVEN, "action": "alert", "table": "others"})) as (watcher, _):
        for _ in range(3):
            await watcher.step(everything=True)
    open_ones = rows(jobs, "SELECT key FROM holdfast.incidents WHERE status = 'open'")
    assert open_ones == []
    assert [each["name"] for each in rows(jobs, "SELECT name FROM holdfast.list_watches()")] == ["others"]


async def test_of_a_view_people_are_told(database: str, jobs: Session) -> None:
    """Where a heartbeat is a worker's and not a job's, a view puts them together."""
    add(jobs)
    jobs.execute(
        "CREATE TABLE beats (tenant text, beat timestamptz);"
        "INSERT INTO beats VALUES ('acme', holdfast.clock() - interval '1 hour');"
        "CREATE VIEW held AS SELECT j.id, j.status, b.beat FROM jobs j JOIN beats b USING (tenant)"
    )
    watch = parse_watch({"table": "held", "heartbeat": "beat", "running": ["processing"]})
    async with watching(database, watch) as (watcher, recorder):
        looks = await watcher.step()
    looked = looks["held"]
    assert isinstance(looked, Looked)
    assert (looked.stale, len(looked.rows), looked.rescues) == (1, 1, [])
    assert [each.title for each in recorder.of(IncidentChanged)] == ["1 row of held stuck"]


async def test_a_row_that_the_table_refuses_to_change_stops_no_other_and_is_told_without_its_values(
    database: str, jobs: Session
) -> None:
    stuck = [add(jobs) for _ in range(5)]
    add(jobs, "pending", tenant="secret")
    clash = add(jobs, tenant="secret")
    jobs.execute("CREATE UNIQUE INDEX one_pending ON jobs (tenant) WHERE status = 'pending' AND tenant <> 'acme'")
    async with watching(database, parse_watch({**GIVEN, "action": "mark"})) as (watcher, recorder):
        (looked,) = (await watcher.step()).values()
        assert isinstance(looked, Looked)
        assert {each.row.row_id for each in looked.rescues} == set(stuck)
        assert looked.problem is not None
        assert 'violates unique constraint "one_pending"' in looked.problem
        assert "secret" not in looked.problem
        titles = [each.title for each in recorder.of(IncidentChanged)]
        assert "Table jobs refuses to let rows be taken back" in titles
        ledger = AsyncLedger(database)
        (line,) = await ledger.call(list_watches())
        await ledger.close()
        assert (line.stale, line.rescued, line.problem) == (1, 5, looked.problem)
        jobs.execute("UPDATE jobs SET status = 'succeeded' WHERE id <> %s", [clash])
        (looked,) = (await watcher.step(everything=True)).values()
    assert isinstance(looked, Looked)
    assert looked.problem is None
    assert statuses(jobs)[clash] == "pending"


async def test_a_trigger_that_raises_is_told_by_its_code_alone(database: str, jobs: Session) -> None:
    add(jobs)
    jobs.execute(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no, %', new.tenant; END $$;"
        "CREATE TRIGGER no BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION no()"
    )
    async with watching(database, parse_watch({**GIVEN, "action": "mark"})) as (watcher, _):
        (looked,) = (await watcher.step()).values()
    assert isinstance(looked, Looked)
    assert looked.problem == "1 row cannot be taken back: error P0001 of a type or a trigger"


async def test_a_status_that_a_check_refuses_is_told_before_it_is_needed(database: str, jobs: Session) -> None:
    jobs.execute("ALTER TABLE jobs ADD CONSTRAINT known CHECK (status IN ('pending', 'processing'))")
    ((level, told),) = await problems(database)
    assert level == "error"
    assert told.startswith("'failed' is refused by the constraint known of public.jobs: it demands: ")


@pytest.mark.parametrize("moment", ["-infinity", "0044-03-15 BC"])
async def test_a_time_that_no_calendar_has_blinds_no_table(database: str, jobs: Session, moment: str) -> None:
    odd, stuck = add(jobs), add(jobs)
    jobs.execute("UPDATE jobs SET heartbeat_at = %s WHERE id = %s", [moment, odd])
    async with watching(database, parse_watch({**GIVEN, "action": "mark"})) as (watcher, _):
        (looked,) = (await watcher.step()).values()
    assert isinstance(looked, Looked)
    assert [(each.row.row_id, each.row.silent_since is None) for each in looked.rescues] == [
        (odd, True),
        (stuck, False),
    ]


async def test_a_payload_is_sent_as_its_text(database: str, jobs: Session) -> None:
    text = '{"a": 1.10, "b": 12345678901234567890.123456789}'
    jobs.execute("ALTER TABLE jobs ADD payload jsonb, ADD raw json")
    add(jobs, payload=text, raw='{"x":"\\u0000",  "x": 1}')
    for name, body in (("payload", text), ("raw", '{"x":"\\u0000",  "x": 1}')):
        watch = parse_watch({**GIVEN, "queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q", "payload": name})
        async with watching(database, watch) as (watcher, _):
            looked = await watcher.look(watch, dry=True)
        assert isinstance(looked, Looked)
        (rescue,) = looked.rescues
        assert rescue.entry is not None
        assert json.loads(rescue.entry["MessageBody"], parse_float=str) == json.loads(body, parse_float=str)
        assert name == "payload" or rescue.entry["MessageBody"] == body


async def test_without_a_key_of_one_column_people_can_be_told(database: str, conn: Session) -> None:
    conn.execute(
        "CREATE TABLE parted (id int, at timestamptz, status text, heartbeat_at timestamptz, PRIMARY KEY (id, at))"
        " PARTITION BY RANGE (at)"
    )
    conn.execute("CREATE TABLE parted_now PARTITION OF parted DEFAULT")
    conn.execute("INSERT INTO parted VALUES (1, now(), 'processing', holdfast.clock() - interval '1 hour')")
    watch = parse_watch({**GIVEN, "table": "parted", "action": "alert"})
    async with watching(database, watch) as (watcher, _):
        (looked,) = (await watcher.step()).values()
    assert isinstance(looked, Looked)
    assert [each.row_id for each in looked.rows] == ["1"]
