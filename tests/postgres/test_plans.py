"""How much the hot calls read in a big ledger: rows and buffers by auto_explain, never time.

Each call is measured after six others in its session, when its plans are cached and generic.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.support import (
    Row,
    Session,
    advance,
    beat,
    calm,
    cancel,
    check_leases,
    claim,
    claim_one,
    database_copy,
    enqueue,
    mark_gone,
    open_session,
    progress,
    register,
    release_lost_claims,
    rescue,
    row,
    seconds,
    settle_many,
    sweep_workers,
)

EXPLAIN = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = json;
SET client_min_messages = log;
"""

# One queue. Before what a worker may run lie, by priority: a million jobs of a kind that it does not know, 200,000
# that are scheduled for later, and 100,000 of a group that is busy.
LOAD = """
CREATE TEMP TABLE definitions AS
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'holdfast' AND tablename = 'jobs' AND indexname <> 'jobs_pkey';
DO $$ BEGIN EXECUTE (SELECT string_agg(format('DROP INDEX holdfast.%I', indexname), ';') FROM definitions); END $$;
INSERT INTO holdfast.jobs (id, queue, kind, args, priority, run_at, group_key, created_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'default',
       CASE WHEN n <= 1000000 THEN 'unknown' WHEN n <= 1200000 THEN 'later' WHEN n <= 1300050 THEN 'grouped'
            ELSE 'plain' END,
       '{"a": 1}',
       CASE WHEN n <= 1000000 THEN -4 WHEN n <= 1200000 THEN -3 WHEN n <= 1300000 THEN -2 ELSE 0 END,
       holdfast.clock() + CASE WHEN n BETWEEN 1000001 AND 1200000 THEN interval '1 day' ELSE interval '-1 day' END
           + n * interval '1 millisecond',
       CASE WHEN n BETWEEN 1200001 AND 1300000 THEN 'busy' WHEN n BETWEEN 1300001 AND 1300050 THEN 'free ' || n END,
       holdfast.clock()
FROM generate_series(1, 1400000) AS n;
DO $$ BEGIN EXECUTE (SELECT string_agg(indexdef, ';') FROM definitions); END $$;
ANALYZE holdfast.jobs;
"""

KINDS = ("plain", "grouped", "later")


@dataclass
class Work:
    """What one call did, over all statements that ran inside it."""

    plans: list[Row] = field(default_factory=list)

    def nodes(self, relation: str) -> Iterator[Row]:
        for plan in self.plans:
            for node in walk(plan["Plan"]):
                if node.get("Relation Name") == relation:
                    yield node

    def rows_read(self, relation: str = "jobs") -> int:
        """Rows that were looked at, whether they passed the filters or not."""
        filters = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
        return round(
            sum(
                node["Actual Loops"] * (node["Actual Rows"] + sum(node.get(name, 0) for name in filters))
                for node in self.nodes(relation)
                if node["Node Type"] != "ModifyTable"
            )
        )

    def scans(self, relation: str = "jobs") -> set[str]:
        return {node["Node Type"] for node in self.nodes(relation)} - {"ModifyTable"}

    @property
    def buffers(self) -> int:
        """The outermost statement's, which include those of all statements inside."""
        outermost = self.plans[-1]["Plan"]
        return int(outermost["Shared Hit Blocks"] + outermost["Shared Read Blocks"])


def walk(node: Row) -> Iterator[Row]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)


def measured(conn: Session, action: Callable[[], Any]) -> Work:
    """Let `action` make exactly one call and see what it cost."""
    work = Work()

    def note(message: psycopg.errors.Diagnostic) -> None:
        text = message.message_primary or ""
        if "plan:" in text:
            work.plans.append(json.loads(text.partition("plan:")[2]))

    conn.execute(EXPLAIN)
    conn.add_notice_handler(note)
    try:
        action()
    finally:
        conn.remove_notice_handler(note)
        conn.execute("SET auto_explain.log_min_duration = -1")
    assert work.plans, "auto_explain said nothing"
    return work


def after_six_calls(conn: Session, action: Callable[[], Any]) -> Work:
    for _ in range(6):
        action()
    return measured(conn, action)


def assert_reads_little(work: Work, *, rows: int, buffers: int) -> None:
    print(f"{work.rows_read()} of {rows} rows, {work.buffers} of {buffers} buffers")
    assert work.scans() <= {"Index Scan", "Index Only Scan"}
    assert work.rows_read() <= rows
    assert work.buffers <= buffers


@pytest.fixture(scope="module")
def big(bare: str, template: str) -> Iterator[str]:
    """1,400,000 jobs, 1,000 workers, 500 running rows and one running job of the busy group."""
    with database_copy(bare, template) as dsn:
        with open_session(dsn) as conn:
            for statement in LOAD.split(";\n"):
                conn.execute(statement.encode())
            claim_one(conn, register(conn), kinds=["grouped"])
            for _ in range(5):
                claim(conn, register(conn), 100, kinds=["plain"])
            for _ in range(994):
                register(conn)
            conn.execute("ANALYZE holdfast.workers")
        yield dsn


@pytest.fixture
def ledger(big: str) -> Iterator[Session]:
    with open_session(big) as conn:
        yield conn


@pytest.fixture
def me(ledger: Session) -> UUID:
    return register(ledger)


# Claims


@pytest.mark.parametrize("floor", [False, True])
def test_a_claim_of_plain_jobs_reads_only_what_it_takes(ledger: Session, me: UUID, floor: bool) -> None:
    opts: Row = {}

    def take() -> None:
        runs = claim(ledger, me, 10, kinds=["plain"], **opts)
        assert len(runs) == 10
        last = max(runs, key=lambda run: (run["priority"], run["run_at"], run["id"]))
        if floor:
            place = {"priority": last["priority"], "run_at": last["run_at"].isoformat(), "id": str(last["id"])}
            opts["floor"] = place

    assert_reads_little(after_six_calls(ledger, take), rows=60, buffers=400)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_claim_behind_a_floor_reads_nothing_of_the_jobs_before_it_while_an_old_snapshot_keeps_them(
    conn: Session, database: str, grouped: bool
) -> None:
    me = register(conn)
    fill = """
        INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, created_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'default', 'report', '{}',
               holdfast.clock() - interval '1 hour' + n * interval '1 millisecond', holdfast.clock()
        FROM generate_series(1, 32000) AS n
    """
    conn.execute(fill.encode())
    if grouped:
        conn.execute("UPDATE holdfast.jobs SET group_key = 'last' WHERE id = lpad(to_hex(32000), 32, '0')::uuid")
    opts: Row = {}

    def take(count: int = 10) -> list[tuple[UUID, int, str]]:
        runs = claim(conn, me, count, **opts)
        assert len(runs) == count
        last = max(runs, key=lambda run: (run["priority"], run["run_at"], run["id"]))
        opts["floor"] = {"priority": last["priority"], "run_at": last["run_at"].isoformat(), "id": str(last["id"])}
        return [(run["id"], run["lease"], "complete") for run in runs]

    with open_session(database) as snapshot, snapshot.transaction():
        snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        snapshot.execute("SELECT count(*) FROM holdfast.jobs")
        for _ in range(10):
            settle_many(conn, me, take(3000))
        assert_reads_little(after_six_calls(conn, take), rows=100, buffers=220)


def test_a_claim_passes_over_a_busy_group_without_reading_its_100000_jobs(ledger: Session, me: UUID) -> None:
    def take() -> None:
        assert len(claim(ledger, me, 5, kinds=["grouped"])) == 5

    assert_reads_little(after_six_calls(ledger, take), rows=4000, buffers=2000)


def test_a_claim_that_finds_only_jobs_for_later_reads_none_of_the_200000(ledger: Session, me: UUID) -> None:
    def take() -> None:
        assert claim(ledger, me, 10, kinds=["later"]) == []

    assert_reads_little(after_six_calls(ledger, take), rows=10, buffers=100)


def test_a_claim_over_everything_at_once_stays_small(ledger: Session, me: UUID) -> None:
    def take() -> None:
        runs = claim(ledger, me, 10, kinds=KINDS)
        assert len(runs) == 10

    assert_reads_little(after_six_calls(ledger, take), rows=4000, buffers=2000)


def test_a_claim_reads_nothing_of_a_million_jobs_of_an_unknown_kind(ledger: Session, me: UUID) -> None:
    def take() -> None:
        assert claim(ledger, me, 10, kinds=["known to nobody"]) == []

    assert_reads_little(after_six_calls(ledger, take), rows=0, buffers=60)


@pytest.mark.parametrize("group", ["NULL", "'g' || n / 5"])
def test_a_claim_planned_on_an_empty_table_stays_small_when_the_table_has_grown(conn: Session, group: str) -> None:
    me = register(conn)
    for _ in range(20):
        assert claim(conn, me) == []
    grow = """
        INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, group_key, created_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'default', 'report', '{{}}',
               holdfast.clock() - interval '1 hour' + n * interval '1 millisecond', {}, holdfast.clock()
        FROM generate_series(1, 200000) AS n
    """
    conn.execute(grow.format(group).encode())
    rows, buffers = (60, 400) if group == "NULL" else (10_000, 50_000)

    def take() -> None:
        assert len(claim(conn, me)) == 10

    assert_reads_little(measured(conn, take), rows=rows, buffers=buffers)
    assert_reads_little(after_six_calls(conn, take), rows=rows, buffers=buffers)


# The other calls


def test_a_settle_reads_the_rows_that_it_names(ledger: Session, me: UUID) -> None:
    def end() -> None:
        assert {each["verdict"] for each in settle_many(ledger, me, batches.pop())} == {"applied"}

    runs = claim(ledger, me, 70, kinds=["plain"])
    outcomes = ["complete", "fail", "release", "snooze", "complete"] * 2
    batches = [
        [(run["id"], run["lease"], outcome) for run, outcome in zip(runs[n : n + 10], outcomes, strict=True)]
        for n in range(0, 70, 10)
    ]
    assert_reads_little(after_six_calls(ledger, end), rows=40, buffers=400)


def test_a_repeated_settle_reads_the_rows_that_it_names(ledger: Session, me: UUID) -> None:
    runs = claim(ledger, me, 10, kinds=["plain"])
    named = [(run["id"], run["lease"], "complete") for run in runs]
    settle_many(ledger, me, named)

    def again() -> None:
        assert {each["verdict"] for each in settle_many(ledger, me, named)} == {"already"}

    assert_reads_little(after_six_calls(ledger, again), rows=40, buffers=400)


def test_check_leases_reads_the_workers_own_rows(ledger: Session, me: UUID) -> None:
    runs = claim(ledger, me, 100, kinds=["plain"])

    def check() -> None:
        assert check_leases(ledger, me, *runs) == {}

    assert_reads_little(after_six_calls(ledger, check), rows=100, buffers=400)


def test_progress_reads_the_rows_that_it_names(ledger: Session, me: UUID) -> None:
    runs = claim(ledger, me, 10, kinds=["plain"])
    assert_reads_little(
        after_six_calls(ledger, lambda: progress(ledger, me, *runs, report={"done": 1})), rows=40, buffers=400
    )


def test_a_cancel_reads_the_rows_that_it_names(ledger: Session) -> None:
    ids = [uuid4() for _ in range(10)]
    assert_reads_little(after_six_calls(ledger, lambda: cancel(ledger, *ids)), rows=40, buffers=400)


def test_a_release_of_lost_claims_reads_the_rows_that_it_names(ledger: Session, me: UUID) -> None:
    runs = claim(ledger, me, 70, kinds=["plain"])
    batches = [runs[n : n + 10] for n in range(0, 70, 10)]

    def give_back() -> None:
        assert len(release_lost_claims(ledger, me, *batches.pop())) == 10

    assert_reads_little(after_six_calls(ledger, give_back), rows=60, buffers=600)


def test_an_enqueue_reads_next_to_nothing(ledger: Session) -> None:
    work = after_six_calls(ledger, lambda: enqueue(ledger, kind="plain", unique_key="one", priority=9))
    assert_reads_little(work, rows=10, buffers=200)


def test_a_beat_is_one_probe_of_the_workers_own_row(ledger: Session, me: UUID) -> None:
    work = after_six_calls(ledger, lambda: beat(ledger, me))
    assert work.scans("workers") == {"Index Scan"}
    assert work.rows_read("workers") == 1
    assert work.rows_read("jobs") == 0
    assert work.buffers <= 60


def test_a_sweep_for_lapsed_workers_reads_the_workers_once_and_no_job(ledger: Session) -> None:
    calm(ledger)
    work = after_six_calls(ledger, lambda: sweep_workers(ledger))
    alive = row(ledger, "SELECT count(*) AS n FROM holdfast.workers")["n"]
    assert work.rows_read("workers") <= 2 * alive
    assert list(work.nodes("jobs")) == []


def test_a_sweep_for_stuck_jobs_reads_the_running_rows_only(ledger: Session) -> None:
    calm(ledger)
    running = row(ledger, "SELECT count(*) AS n FROM holdfast.jobs WHERE status = 'running'")["n"]
    work = after_six_calls(ledger, lambda: rescue(ledger))
    assert_reads_little(work, rows=2 * running, buffers=10 * running)


def test_a_rescue_reads_the_running_rows_and_what_it_takes(ledger: Session, me: UUID) -> None:
    claim(ledger, me, 10, kinds=["plain"])
    mark_gone(ledger, me)
    running = row(ledger, "SELECT count(*) AS n FROM holdfast.jobs WHERE status = 'running'")["n"]

    def take() -> None:
        rescue(ledger, max_jobs=1)

    work = after_six_calls(ledger, take)
    assert_reads_little(work, rows=2 * running + 20, buffers=10 * running)


# HOT updates


def hot_share(conn: Session, table: str, action: Callable[[], Any]) -> float:
    def counts() -> tuple[int, int]:
        conn.execute("SELECT pg_stat_force_next_flush()")
        found = row(
            conn,
            "SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot FROM pg_stat_user_tables"
            " WHERE schemaname = 'holdfast' AND relname = %s",
            table,
        )
        return found["updates"], found["hot"]

    updates, hot = counts()
    action()
    updates_after, hot_after = counts()
    assert updates_after > updates
    return (hot_after - hot) / (updates_after - updates)


def test_beats_are_hot_updates(conn: Session) -> None:
    workers = [register(conn, queues=["default"], kinds=["report"], host="h" * 40) for _ in range(50)]

    def beats() -> None:
        for _ in range(20):
            advance(conn, seconds(5))
            for each in workers:
                beat(conn, each, loop_lag=0.01, running=3)

    assert hot_share(conn, "workers", beats) >= 0.95


def test_heartbeats_and_progress_are_hot_updates(conn: Session) -> None:
    conn.execute(
        "INSERT INTO holdfast.jobs (id, queue, kind, args, run_at, created_at)"
        " SELECT gen_random_uuid(), 'default', 'report', '{\"a\": 1}', holdfast.clock(), holdfast.clock()"
        " FROM generate_series(1, 1000)"
    )
    me = register(conn)
    runs = claim(conn, me, 1000)
    assert len(runs) == 1000

    def heartbeats() -> None:
        for n in range(20):
            advance(conn, seconds(60))
            progress(conn, me, *runs, report={"done": n} if n % 2 else None)

    assert hot_share(conn, "jobs", heartbeats) >= 0.95
