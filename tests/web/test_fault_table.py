"""What each address means in each fault: every cell is tried, on an API with a Postgres and an SQS of its own.

An answer comes within its deadline whatever hangs, opens no connection, and tells strangers the status only.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.core.health import Limits
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.services.health import Rhythm
from holdfast.services.sqs_watch import WatchedQueue
from tests.services.helpers import until
from tests.support import enqueue, open_session
from tests.web.support import ELSEWHERE, NEWEST, Api, api_over, frozen
from tests.web.test_app import NOWHERE
from tests.web.test_health import all_is_well

URLS = ("/livez", "/startupz", "/readyz", "/readyz?database", "/api/health")
#: Seconds that an answer may take here; what is measured is in bench/.
DEADLINE = 1.0
#: It sees a fault soon, and has the patience of the usual one.
RHYTHM = Rhythm(ping=0.2, look=0.3, slow=0.3, look_deadline=1.0)
SECRETS = ("hunter2", "postgresql://", "127.0.0.1", "/tmp/", "holdfast_app", "sqs", "silent-queue", "slack")

Fault = Callable[[Api, EmbeddedPostgres], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Row:
    """A fault, what each of `URLS` answers while it lasts, and the check that tells of it."""

    name: str
    fault: Fault
    codes: tuple[int, ...]
    check: str = ""
    status: str = "pass"


@asynccontextmanager
async def nothing(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def postgres_stopped(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    with frozen(server):
        yield


@asynccontextmanager
async def never_there(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    await api.services.start()  # over an address where nobody listens: see row_of
    yield


@asynccontextmanager
async def a_check_hangs(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    """Somebody locks a table that one look reads; it is blind for it from then on."""
    with contextlib.closing(open_session(server.dsn)) as conn, conn.transaction():
        conn.execute("LOCK holdfast.notifications IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def sqs_silent(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    yield  # the queue that this API watches is never answered for


@asynccontextmanager
async def slack_silent(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    """As the alerter leaves it: tried in vain."""
    with contextlib.closing(open_session(server.dsn)) as conn:
        conn.execute(
            "INSERT INTO holdfast.notifications (id, channel, reason, content, created_at, due_at, attempts, error)"
            " VALUES (gen_random_uuid(), 'slack', 'first', '{}', holdfast.clock(), holdfast.clock(), 3, 'no answer')"
        )
        yield
        conn.execute("DELETE FROM holdfast.notifications")


@asynccontextmanager
async def no_worker(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    with contextlib.closing(open_session(server.dsn)) as conn:
        conn.execute("UPDATE holdfast.workers SET gone_at = holdfast.clock(), gone_reason = 'stopped'")
        enqueue(conn, kind="late")
        conn.execute("UPDATE holdfast.jobs SET run_at = run_at - interval '1 hour'")
        yield
        conn.execute("DELETE FROM holdfast.jobs")
        all_is_well(conn)


@asynccontextmanager
async def newer_schema(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    with contextlib.closing(open_session(server.dsn)) as conn:
        conn.execute("INSERT INTO holdfast.schema_migrations (version, name, checksum) VALUES (999, 'future', 'x')")
        yield
        conn.execute("DELETE FROM holdfast.schema_migrations WHERE version = 999")


@asynccontextmanager
async def older_schema(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    with contextlib.closing(open_session(server.dsn)) as conn:
        (kept,) = conn.execute("DELETE FROM holdfast.schema_migrations WHERE version = %s RETURNING *", (NEWEST,))
        yield
        conn.execute(
            "INSERT INTO holdfast.schema_migrations VALUES (%(version)s, %(name)s, %(checksum)s, %(applied_at)s)", kept
        )


@asynccontextmanager
async def draining(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    api.services.watch.draining = True
    yield
    api.services.watch.draining = False


@asynccontextmanager
async def pool_full(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    """Every connection for requests waits for a lock, and one more request for a connection."""
    with contextlib.closing(open_session(server.dsn)) as conn:
        async with asyncio.TaskGroup() as group:
            with conn.transaction():
                conn.execute("LOCK holdfast.idempotency_keys IN ACCESS EXCLUSIVE MODE")
                body = {"kind": "report", "args": {}}
                for number in range(5):
                    headers = {"Idempotency-Key": f"key-{number}"}
                    group.create_task(api.client.post("/api/jobs", json=body, headers=headers))
                yield
        conn.execute("DELETE FROM holdfast.jobs")


@asynccontextmanager
async def wedged(api: Api, server: EmbeddedPostgres) -> AsyncIterator[None]:
    """The loop that looks has ended, while the event loop still turns."""
    looking = api.services.watch._loops[0]._task
    assert looking is not None
    looking.cancel()
    yield


ROWS = (
    Row("nothing is wrong", nothing, (200, 200, 200, 200, 200)),
    Row("Postgres is stopped", postgres_stopped, (200, 200, 200, 503, 503), "database", "fail"),
    Row("it began without Postgres", never_there, (200, 200, 503, 503, 503), "database", "fail"),
    Row("a check hangs", a_check_hangs, (200, 200, 200, 200, 200), "notifications", "fail"),
    Row("SQS does not answer", sqs_silent, (200, 200, 200, 200, 200), "sqs", "fail"),
    Row("Slack does not answer", slack_silent, (200, 200, 200, 200, 200), "notifications", "warn"),
    Row("no worker lives, jobs are due", no_worker, (200, 200, 200, 200, 503), "workers", "fail"),
    Row("the schema is a newer one", newer_schema, (200, 200, 200, 200, 200), "schema", "warn"),
    Row("the schema is an older one", older_schema, (200, 200, 503, 503, 503), "schema", "fail"),
    Row("all connections are taken", pool_full, (200, 200, 200, 200, 200), "pool", "warn"),
    Row("it drains", draining, (200, 200, 503, 503, 200)),
    Row("a loop of its own is stuck", wedged, (503, 200, 200, 200, 200)),
)


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_each_address_means_the_same_in_each_fault(
    own_server: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(open_session(own_server.dsn)) as conn:
        all_is_well(conn)
    lines = [f"{'fault':<32}" + "".join(f"{url:<18}" for url in URLS)]
    for row in ROWS:
        lines.append(f"{row.name:<32}" + "".join(f"{cell:<18}" for cell in await row_of(row, own_server)))
    with capsys.disabled():
        print("\n\n" + "\n".join(lines) + "\n")


async def row_of(row: Row, server: EmbeddedPostgres) -> list[str]:
    """Each address asked while the fault lasts, once the watch has seen it; the cells of the table."""
    async with silent_server() as port:
        queues = [WatchedQueue(f"http://127.0.0.1:{port}/0/silent-queue", "bells")] if row.fault is sqs_silent else []
        limits = Limits(slow_ping=60.0, worsen=1, clear=1, blind_after=4.0, unserved_after=60.0)
        with contextlib.closing(open_session(server.dsn)) as conn:
            conn.execute("UPDATE holdfast.monitors SET swept_at = holdfast.clock()")
            conn.execute("UPDATE holdfast.workers SET seen_at = holdfast.clock()")
        began_well = row.fault is not never_there
        dsn = server.dsn if began_well else NOWHERE
        given: dict[str, Any] = {
            "limits": limits,
            "sqs_queues": queues,
            "timeout": 8.0,
            "limiter_deadline": 0.05,
            "rhythm": RHYTHM,
        }
        async with (
            api_over(dsn, started=began_well, **given) as api,
            api.caller(ELSEWHERE) as stranger,
            row.fault(api, server),
        ):
            await until(lambda: has(api, row), row.name, seconds=30)
            opened = connections(api)
            cells = []
            for url, code in zip(URLS, row.codes, strict=True):
                began = time.monotonic()
                answer = await asyncio.wait_for(stranger.get(url), DEADLINE)
                took = time.monotonic() - began
                assert answer.status_code == code, f"{row.name}: {url} answers {answer.status_code}, {answer.text}"
                assert set(answer.json()) <= {"status", "reason"}
                assert not [each for each in SECRETS if each in f"{answer.text} {answer.headers}".lower()]
                assert answer.headers["cache-control"] == "no-store" or (url, code) == ("/api/health", 200)
                cells.append(f"{code} in {took * 1000:.0f} ms")
            assert connections(api) == opened, "a request opened a connection"
    return cells


def has(api: Api, row: Row) -> bool:
    """Whether the watch tells of the fault."""
    found = {check.name: check.status.value for check in api.services.watch.health().checks}
    well = row.check or all(status == "pass" for status in found.values()) or row.fault in (wedged, draining)
    stuck = row.fault is not wedged or bool(api.services.stuck())
    return bool(well) and stuck and (not row.check or found.get(row.check) == row.status)


def connections(api: Api) -> int:
    """How many connections the API has for requests now."""
    return sum(each._connection is not None for each in api.services.ledger._all)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Takes connections, and never answers."""
    kept: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for writer in kept:
            writer.close()


def test_every_address_has_a_cell_in_every_row() -> None:
    assert {len(row.codes) for row in ROWS} == {len(URLS)}
    assert len({row.name for row in ROWS}) == len(ROWS)
