"""Every function of the ledger with arguments that nobody should send: refused clearly or done, and nothing is lost.

Seeded: a failure names its seed and its call. `HOLDFAST_FUZZ_SEED` runs that one again.
"""

import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from tests.support import Session, claim, enqueue, open_session, register, rows

#: What a caller may be told: a value that is none (22), a rule that was broken (23), our own words (HF, PGRST, P0001),
#: no such row (P0002), too large to be stored (54).
FAIR = ("22", "23", "HF", "PGRST", "P0001", "P0002", "54000")
#: An identity may stand in one call of it only once, and to look for that would cost every other call.
FAIR_TOO = {("rate_limit_hits", "21000"), ("holdfast_rate_limit_hits", "21000")}
#: Not called: they change the schema's rights, or need a clock that stands still.
LEFT_OUT = {"secure_schema", "expose_functions", "offer_stale_jobs", "clock"}

TEXTS = [
    None, "", " ", "default", "report", "succeeded", "running", "queued", "dead", "mail", "x" * 201, "x" * 100_000,
    "ü" * 70, "a\tb\nc", "'; DROP TABLE holdfast.jobs; --", "%s", "{}", "[]", "null", "{", '{"a": 1}', '["\\u0000"]',
    "\u202e", "😀", "-1", "0", "1e400", "NaN", "admin", "fail", "complete", "claim_lost", "worker_gone",
]  # fmt: skip
NUMBERS = [None, 0, 1, -1, 2, 7, 1000, 32767, -32768, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]
DOCUMENTS = [
    None, "null", "{}", "[]", '""', "0", "true", '{"queues": ["default"], "kinds": ["report"], "slots": 3}',
    '{"slots": -1}', '{"slots": "many"}', '{"queues": null}', '{"queues": [null, 3, {}]}',
    '{"reason": "x", "dice": "high"}', '[1, "a", null, {}]', '{"policy": {"max_attempts": -3}}',
    '{"policies": [{}]}', '{"max_attempts": 1e300}',
    '[{"kind": null, "queue": 3}]',
    '[{"id": "nonsense"}]', '{"a": ' * 50 + "1" + "}" * 50, '{"floor": {"priority": 1}}', '{"lost_after": "-1 s"}',
]  # fmt: skip
SPANS = [None, timedelta(0), timedelta(seconds=-1), timedelta(seconds=1), timedelta(days=400), timedelta(days=200_000)]
TIMES = [
    None,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2026, 11, 25, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
]
FLOATS = [None, 0.0, -1.0, 0.5, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 60.0]
LENGTHS = [0, 0, 1, 1, 2, 3, 3, 50]


@dataclass(frozen=True)
class Function:
    """One function, and the types of its arguments."""

    schema: str
    name: str
    types: tuple[str, ...]


@dataclass
class Fuzz:
    """One ledger with something in it, and what is sent to it."""

    conn: Session
    rng: random.Random
    jobs: dict[UUID, int] = field(default_factory=dict)
    workers: list[UUID] = field(default_factory=list)
    #: Of all arrays of one call, as a careful caller sends them; None: each its own.
    length: int | None = None

    def fill(self) -> None:
        """Jobs that wait, run, have succeeded and are dead, and workers."""
        self.workers = [register(self.conn) for _ in range(3)]
        for _ in range(12):
            enqueue(self.conn)
        claim(self.conn, self.workers[0], 4)
        self.look()

    def look(self) -> None:
        """Nothing that was there is lost, no lease fell, and every row is one that the protocol knows."""
        found = rows(self.conn, "SELECT id, lease, status, worker_id FROM holdfast.jobs")
        now = {row["id"]: row["lease"] for row in found}
        lost = [id for id in self.jobs if id not in now]
        fell = [id for id, lease in self.jobs.items() if now.get(id, lease) < lease]
        assert (lost, fell) == ([], [])
        wrong = [row for row in found if (row["status"] == "running") != (row["worker_id"] is not None)]
        assert wrong == []
        self.jobs = now

    def prune(self, function: Function) -> None:
        """It may take what has ended, and nothing else."""
        self.look()
        (open_jobs,) = rows(
            self.conn, "SELECT array_agg(id) AS ids FROM holdfast.jobs WHERE status IN ('queued', 'running')"
        )
        self.call(function)
        (left,) = rows(
            self.conn, "SELECT array_agg(id) AS ids FROM holdfast.jobs WHERE status IN ('queued', 'running')"
        )
        assert left == open_jobs
        self.jobs = {}
        self.look()

    def argument(self, kind: str) -> Any:
        if kind.endswith("[]"):
            if self.rng.random() < 0.08:
                return None
            length = self.rng.choice(LENGTHS) if self.length is None else self.length
            return [self.argument(kind[:-2]) for _ in range(length)]
        pools: dict[str, list[Any]] = {
            "uuid": [None, UUID(int=0), UUID(int=2**128 - 1), uuid4(), *self.workers, *list(self.jobs)[:8]],
            "integer": [each for each in NUMBERS if each is None or abs(each) < 2**31],
            "smallint": [each for each in NUMBERS if each is None or abs(each) < 2**15],
            "bigint": NUMBERS,
            "numeric": NUMBERS,
            "text": TEXTS,
            "jsonb": DOCUMENTS,
            "json": DOCUMENTS,
            "interval": SPANS,
            "timestamp with time zone": TIMES,
            "double precision": FLOATS,
            "boolean": [None, True, False],
            "bytea": [None, b"", b"\0" * 40],
            "regclass": [None],
        }
        return self.rng.choice(pools[kind])

    def call(self, function: Function) -> None:
        """Call it; what it may answer with is a row, or an error that is fair."""
        self.length = self.rng.choice(LENGTHS) if self.rng.random() < 0.7 else None
        given = [self.argument(kind) for kind in function.types]
        places = sql.SQL(", ").join(sql.SQL("%s::" + kind) for kind in function.types)
        query = sql.SQL("SELECT * FROM {}.{}({})").format(
            sql.Identifier(function.schema), sql.Identifier(function.name), places
        )
        try:
            self.conn.execute(query, given).fetchmany(5)
        except psycopg.Error as error:
            # What the driver cannot read, such as a time after the year 9999, has no code.
            code = error.sqlstate or ("22" if isinstance(error, psycopg.DataError) else "connection lost")
            if not (code.startswith(FAIR) or (function.name, code) in FAIR_TOO):
                raise AssertionError(f"{function.name}{given!r:.600}\n{code}") from error


def functions_of(conn: Session) -> list[Function]:
    found = rows(
        conn,
        """
        SELECT n.nspname AS schema, p.proname AS name,
               coalesce((SELECT array_agg(format_type(t.type, NULL) ORDER BY t.place)
                         FROM unnest(p.proargtypes) WITH ORDINALITY AS t (type, place)), '{}')::text[] AS types
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE (n.nspname = 'holdfast' OR (n.nspname = 'public' AND p.proname LIKE 'holdfast%%'))
          AND p.prorettype <> 'trigger'::regtype
        ORDER BY 1, 2
        """,
    )
    return [Function(row["schema"], row["name"], tuple(row["types"])) for row in found if row["name"] not in LEFT_OUT]


@pytest.fixture
def fuzz(database: str) -> Iterator[Fuzz]:
    seed = int(os.environ.get("HOLDFAST_FUZZ_SEED", secrets.randbelow(10**6)))
    print(f"HOLDFAST_FUZZ_SEED={seed}")
    with open_session(database) as conn:
        conn.execute("SET statement_timeout = '10s'")
        made = Fuzz(conn, random.Random(seed))
        made.fill()
        yield made


def run(fuzz: Fuzz, cases: int) -> None:
    functions = functions_of(fuzz.conn)
    assert len(functions) > 90
    for number in range(cases):
        function = fuzz.rng.choice(functions)
        (fuzz.prune if function.name.endswith("prune") else fuzz.call)(function)
        if number % 200 == 199:
            fuzz.look()
    fuzz.look()


def test_bad_arguments_are_refused_or_done_and_lose_no_job(fuzz: Fuzz) -> None:
    run(fuzz, 1_500)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_hundred_thousand_bad_calls_lose_no_job(fuzz: Fuzz) -> None:
    run(fuzz, 100_000)
