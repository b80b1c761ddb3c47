"""Thin helpers for tests that speak to the ledger: raw SQL, rows as dicts, ids as UUID."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from holdfast.postgres.dsn import is_pooled

Row = dict[str, Any]
Session = psycopg.Connection[Row]

QUEUE = "default"
KIND = "report"
STALE_AFTER = timedelta(minutes=10)

_numbers = itertools.count(1)


# Databases and sessions


def with_database(dsn: str, name: str) -> str:
    return conninfo.make_conninfo(dsn, dbname=name)


@contextmanager
def database_copy(dsn: str, template: str) -> Iterator[str]:
    """A new database made of `template`, dropped at the end whoever still uses it.

    Copied as files: with fsync off that takes a third of the time that the write-ahead log takes.
    """
    name = f"holdfast_test_{next(_numbers)}"
    with psycopg.connect(dsn, autocommit=True) as admin:
        copied = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        admin.execute(copied.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield with_database(dsn, name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def open_session(dsn: str) -> Session:
    """No statement may wait for ever: a test that would hang fails instead."""
    conn = psycopg.connect(dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None if is_pooled(dsn) else 5)
    if not is_pooled(dsn):
        conn.execute("SET statement_timeout = '60s'")
    return conn


def rows(conn: Session, query: str, *params: Any) -> list[Row]:
    return conn.execute(query.encode(), params or None).fetchall()


def row(conn: Session, query: str, *params: Any) -> Row:
    (only,) = rows(conn, query, *params)
    return only


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# Time


def clock(conn: Session) -> datetime:
    now: datetime = row(conn, "SELECT holdfast.clock() AS now")["now"]
    return now


def advance(conn: Session, by: timedelta) -> None:
    """Move the ledger's clock; nobody has to sleep."""
    conn.execute("UPDATE holdfast_test.clock SET shift = shift + %s", (by,))


def restart_postgres(conn: Session) -> None:
    """Make the ledger believe that its server began to serve just now."""
    conn.execute("UPDATE holdfast_test.clock SET started_at = holdfast.clock()")


def calm(conn: Session) -> None:
    """Somebody has been sweeping for an hour without a pause: the brake has no reason to hold."""
    conn.execute(
        "UPDATE holdfast.monitors SET swept_at = holdfast.clock(), hold = NULL,"
        " resumed_at = holdfast.clock() - interval '1 hour' WHERE name = 'mark_workers_gone'"
    )


# Producers


def enqueue_row(
    conn: Session,
    *,
    id: UUID | None = None,
    queue: str = QUEUE,
    kind: str = KIND,
    args: Row | None = None,
    **opts: Any,
) -> Row:
    opts = {name: str(value) if isinstance(value, datetime) else value for name, value in opts.items()}
    return row(
        conn,
        "SELECT job_id, created FROM holdfast.enqueue(%s, %s, %s, %s, %s)",
        id or uuid4(),
        queue,
        kind,
        Jsonb(args or {}),
        Jsonb(opts),
    )


def enqueue(conn: Session, **given: Any) -> UUID:
    job_id: UUID = enqueue_row(conn, **given)["job_id"]
    return job_id


def enqueue_many(
    conn: Session,
    ids: Sequence[UUID],
    *,
    queue: str = QUEUE,
    kind: str = KIND,
    unique_keys: Sequence[str | None] | None = None,
    policies: Sequence[int] | None = None,
    opts: Row | None = None,
) -> list[Row]:
    count = len(ids)
    return rows(
        conn,
        "SELECT ord, id, created FROM holdfast.enqueue_many(%s, %s::text[], %s::text[], %s::jsonb[],"
        " unique_keys => %s::text[], policies => %s::integer[], opts => %s) ORDER BY ord",
        list(ids),
        [queue] * count,
        [kind] * count,
        [Jsonb({})] * count,
        list(unique_keys) if unique_keys else None,
        list(policies) if policies else None,
        Jsonb(opts or {}),
    )


def cancel(conn: Session, *ids: UUID) -> dict[UUID, str]:
    found = rows(conn, "SELECT id, verdict FROM holdfast.cancel_jobs(%s::uuid[])", list(ids))
    return {each["id"]: each["verdict"] for each in found}


def retry(conn: Session, *ids: UUID) -> dict[UUID, str]:
    found = rows(conn, "SELECT id, verdict FROM holdfast.retry_jobs(%s::uuid[])", list(ids))
    return {each["id"]: each["verdict"] for each in found}


# Workers


def register(conn: Session, worker_id: UUID | None = None, **opts: Any) -> UUID:
    worker_id = worker_id or uuid4()
    conn.execute("SELECT holdfast.register_worker(%s, %s)", (worker_id, Jsonb(opts)))
    return worker_id


def beat(conn: Session, worker_id: UUID, **opts: Any) -> bool:
    accepted: bool = row(conn, "SELECT holdfast.beat(%s, %s) AS ok", worker_id, Jsonb(opts))["ok"]
    return accepted


def claim(
    conn: Session,
    worker_id: UUID,
    max_jobs: int = 10,
    *,
    queues: Sequence[str] = (QUEUE,),
    kinds: Sequence[str] = (KIND,),
    **opts: Any,
) -> list[Row]:
    return rows(
        conn,
        "SELECT * FROM holdfast.claim(%s, %s::text[], %s::text[], %s, %s)",
        worker_id,
        list(queues),
        list(kinds),
        max_jobs,
        Jsonb(opts),
    )


def claim_one(conn: Session, worker_id: UUID, **given: Any) -> Row:
    (claimed,) = claim(conn, worker_id, 1, **given)
    return claimed


def settle_many(conn: Session, worker_id: UUID, settlements: Sequence[tuple[UUID, int, str]]) -> list[Row]:
    return rows(
        conn,
        "SELECT * FROM holdfast.settle(%s, %s::uuid[], %s::bigint[], %s::text[], delays => %s::interval[])",
        worker_id,
        [each[0] for each in settlements],
        [each[1] for each in settlements],
        [each[2] for each in settlements],
        [timedelta(0)] * len(settlements),
    )


def settle(
    conn: Session,
    worker_id: UUID,
    run: Row,
    outcome: str = "complete",
    *,
    result: Any = None,
    error: Any = None,
    delay: timedelta | None = None,
    fingerprint: str | None = None,
) -> str:
    """End one run, as `claim` returned it; the verdict. A `fail` without a delay is final."""
    answer = row(
        conn,
        "SELECT * FROM holdfast.settle(%s, %s::uuid[], %s::bigint[], %s::text[], %s::jsonb[], %s::jsonb[],"
        " %s::interval[], %s::text[])",
        worker_id,
        [run["id"]],
        [run["lease"]],
        [outcome],
        [None if result is None else Jsonb(result)],
        [None if error is None else Jsonb(error)],
        [delay],
        [fingerprint],
    )
    verdict: str = answer["verdict"]
    return verdict


def progress(conn: Session, worker_id: UUID, *runs: Row, report: Any = None) -> list[str]:
    answers = rows(
        conn,
        "SELECT * FROM holdfast.progress(%s, %s::uuid[], %s::bigint[], %s::jsonb[])",
        worker_id,
        [run["id"] for run in runs],
        [run["lease"] for run in runs],
        [None if report is None else Jsonb(report) for _ in runs],
    )
    verdicts = {(answer["id"], answer["lease"]): answer["verdict"] for answer in answers}
    return [verdicts[run["id"], run["lease"]] for run in runs]


def check_leases(conn: Session, worker_id: UUID, *runs: Row, unknown_after: float = 15) -> dict[UUID, str]:
    answers = rows(
        conn,
        "SELECT * FROM holdfast.check_leases(%s, %s::uuid[], %s::bigint[], %s)",
        worker_id,
        [run["id"] for run in runs],
        [run["lease"] for run in runs],
        seconds(unknown_after),
    )
    return {answer["id"]: answer["verdict"] for answer in answers}


def release_lost_claims(conn: Session, worker_id: UUID, *runs: Row) -> list[Row]:
    return rows(
        conn,
        "SELECT * FROM holdfast.release_lost_claims(%s, %s::uuid[], %s::bigint[])",
        worker_id,
        [run["id"] for run in runs],
        [run["lease"] for run in runs],
    )


# Monitors


def mark_gone(conn: Session, *worker_ids: UUID, reason: str = "crashed") -> dict[UUID, str]:
    """Somebody saw these workers end."""
    found = rows(conn, "SELECT * FROM holdfast.mark_workers_gone(%s::uuid[], %s)", list(worker_ids), reason)
    return {each["worker_id"]: each["verdict"] for each in found}


def sweep_workers(conn: Session) -> dict[UUID, Row]:
    """Look for workers that lapsed; what the sweep says of each."""
    return {each["worker_id"]: each for each in rows(conn, "SELECT * FROM holdfast.mark_workers_gone()")}


def rescue(conn: Session, *, stale_after: timedelta = STALE_AFTER, max_jobs: int = 1000, **opts: Any) -> list[Row]:
    """Take stuck jobs back; without jitter unless told."""
    return rows(
        conn,
        "SELECT * FROM holdfast.rescue_stale_jobs(%s, %s, %s)",
        stale_after,
        max_jobs,
        Jsonb({"dice": 0.5, **opts}),
    )


# What the ledger says


def job(conn: Session, job_id: UUID) -> Row:
    return row(conn, "SELECT * FROM holdfast.jobs WHERE id = %s", job_id)


def worker(conn: Session, worker_id: UUID) -> Row:
    return row(conn, "SELECT * FROM holdfast.workers WHERE id = %s", worker_id)


def events(conn: Session, job_id: UUID) -> list[Row]:
    return rows(conn, "SELECT * FROM holdfast.job_events WHERE job_id = %s ORDER BY id", job_id)
