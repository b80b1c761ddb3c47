"""Processing beside what a ledger gathers: a million waiting jobs, a million finished ones, many for later."""

import contextlib
from collections.abc import Iterator

import psycopg

from bench import servers, sides
from bench.harness import Row, workers

MANY, SLOTS = 30_000, 1000

#: What lies in the table beside the jobs that are processed.
LOADS = {
    "1,000,000 jobs waiting": ("'queued', NULL, 'bench', 'noop', 0, now()", 1_000_000),
    "1,000,000 jobs finished": ("'succeeded', now(), 'bench', 'noop', 0, now()", 1_000_000),
    "200,000 jobs for later": ("'queued', NULL, 'bench', 'noop', 0, now() + interval '1 day'", 200_000),
}
INSERT = """
INSERT INTO holdfast.jobs (id, args, created_at, status, finished_at, queue, kind, priority, run_at)
SELECT gen_random_uuid(), jsonb_build_object('payload', repeat('x', 185)), now(), {}
FROM generate_series(1, %s)
"""


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        start = stack.enter_context(workers())
        memory = stack.enter_context(sides.memory())
        empty = sides.ours(dsn, start, _file(memory / "empty"))
        found = []
        for number, (name, (values, count)) in enumerate(LOADS.items()):
            loaded = sides.ours(servers.another(dsn, f"loaded{number}"), start, _file(memory / f"loaded{number}"))
            found.append(_row(name, empty, loaded, values, count))
        yield found, {**servers.versions(dsn), **sides.settings(), "slots": f"{SLOTS:,}", "jobs each": f"{MANY:,}"}


def _row(name: str, empty: sides.Side, loaded: sides.Side, values: str, count: int) -> Row:
    filled = []

    def measure() -> float:
        if not filled:
            with psycopg.connect(loaded.dsn, autocommit=True) as connection:
                connection.execute(INSERT.format(values).encode(), (count,))
                connection.execute("VACUUM ANALYZE holdfast.jobs")
            filled.append(True)
        return loaded.drain(MANY, fill=lambda: loaded.ask(do="many", count=MANY), all_of_it=False, slots=SLOTS)

    return Row(
        f"with {name}, against the empty table",
        "jobs a second",
        measure,
        {"empty": lambda: empty.drain(MANY, slots=SLOTS)},
        0.8,
    )


def _file(path: "sides.Path") -> "sides.Path":
    path.write_bytes(b"")
    return path
