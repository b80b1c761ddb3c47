"""Enqueueing: one caller, many callers that each wait for their own commit, and many jobs at once."""

import contextlib
import sys
from collections.abc import Iterator

from bench import servers, sides
from bench.harness import HERE, Row, Worker, workers

ONE, MANY = 1500, 50_000


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        each = sides.Sides(dsn, start, stack.enter_context(sides.memory()))
        bare = start(sys.executable, str(HERE / "bare_sql.py"), dsn)
        yield _rows(each, bare), {**servers.versions(dsn), **sides.settings()}


def _rows(each: sides.Sides, bare: Worker) -> list[Row]:
    def rate(side: sides.Side, do: str, count: int, **what: int) -> float:
        side.ask(do="empty")
        return float(side.ask(do=do, count=count, **what)["rate"])

    def bare_rate(do: str, count: int) -> float:
        if do == "one":
            bare.ask(do="fill", count=0)
        return float(bare.ask(do=do, count=count)["rate"])

    def callers() -> float:
        return rate(each.ours, "callers", 30_000, callers=64)

    return [
        Row(
            "one caller, against a bare single-row INSERT",
            "jobs a second",
            lambda: rate(each.ours, "one", ONE),
            {"INSERT": lambda: bare_rate("one", ONE)},
            0.75,
            note="the INSERT is prepared, into a table with a primary key and two partial indexes",
        ),
        Row(
            "one caller, against the peers",
            "jobs a second",
            lambda: rate(each.ours, "one", ONE),
            {
                "PgQueuer": lambda: rate(each.pgqueuer, "one", ONE),
                "Procrastinate": lambda: rate(each.procrastinate, "one", 500),
                "pg-boss": lambda: rate(each.boss, "one", ONE),
                "graphile-worker": lambda: rate(each.graphile, "one", ONE),
            },
            1,
        ),
        Row(
            "64 callers in one process, each waiting for its own commit, against one caller",
            "jobs a second",
            callers,
            {"one caller": lambda: rate(each.ours, "one", ONE)},
            10,
        ),
        Row(
            "50,000 at once, ids come back, against a bare unnest INSERT into the same table",
            "jobs a second",
            lambda: rate(each.ours, "many", MANY),
            {"unnest": lambda: bare_rate("many", MANY)},
            0.75,
            note="the INSERT in thousands within one transaction",
        ),
        Row(
            "50,000 at once, against graphile-worker",
            "jobs a second",
            lambda: rate(each.ours, "many", MANY),
            {"graphile-worker": lambda: rate(each.graphile, "many", MANY)},
            1,
            note="both in thousands",
        ),
    ]
