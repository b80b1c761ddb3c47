"""Jobs in the caller's own transaction: the same on every library's connections."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.orm
from psycopg_pool import ConnectionPool

from holdfast import Holdfast, InvalidConnection, SchemaMismatch
from holdfast.handles import JobKind
from tests import support
from tests.connections import (
    ASYNCHRONOUS,
    BLOCKING,
    Asynchronous,
    Blocking,
    _async_engine,
    _parts,
    django_connection,
    psycopg_async,
    psycopg_connection,
)
from tests.support import Session

Open = Callable[[str], AbstractContextManager[Blocking]]
OpenAsync = Callable[[str], AbstractAsyncContextManager[Asynchronous]]

blocking = pytest.mark.parametrize("connection", BLOCKING, ids=lambda each: each.__name__)
asynchronous = pytest.mark.parametrize("connection", ASYNCHRONOUS, ids=lambda each: each.__name__)


def mail_kind() -> JobKind[..., Any]:
    """Of a program that could not reach a ledger by itself: it uses the connection that it is given, and no other."""

    @Holdfast("postgresql://127.0.0.1:9/nowhere").job(queue="mail", max_attempts=2)
    async def mail(to: str) -> None: ...

    return mail


def stored(conn: Session) -> list[tuple[str, str, dict[str, Any]]]:
    found = support.rows(conn, "SELECT queue, kind, args FROM holdfast.jobs ORDER BY id")
    return [(each["queue"], each["kind"], each["args"]) for each in found]


def users(conn: Session) -> list[str]:
    return [each["name"] for each in support.rows(conn, "SELECT name FROM users ORDER BY name")]


@pytest.fixture(scope="module")
def shared(bare: str, template: str) -> Iterator[str]:
    with support.database_copy(bare, template) as dsn:
        yield dsn


@pytest.fixture
def database(shared: str) -> str:
    """One for all tests here, which is quicker; `table` empties it."""
    return shared


@pytest.fixture(autouse=True)
def table(conn: Session) -> None:
    conn.execute("CREATE TABLE IF NOT EXISTS users (name text)")
    conn.execute("TRUNCATE users, holdfast.jobs")


@blocking
def test_a_job_exists_if_and_when_the_caller_commits(connection: Open, database: str, conn: Session) -> None:
    mail = mail_kind()
    with connection(database) as own:
        own.execute("INSERT INTO users VALUES ('ann')")
        mail.options(conn=own.conn).enqueue_sync("ann")
        assert (users(conn), stored(conn)) == ([], [])
        own.rollback()
    assert (users(conn), stored(conn)) == ([], [])
    with connection(database) as own:
        own.execute("INSERT INTO users VALUES ('bob')")
        job = mail.options(conn=own.conn, unique_key="b", delay=60).enqueue_sync("bob's 100 % ✓ :name $1")
        own.commit()
    assert users(conn) == ["bob"]
    assert stored(conn) == [("mail", "mail", {"to": "bob's 100 % ✓ :name $1"})]
    row = support.job(conn, job.id)
    assert (row["unique_key"], row["max_attempts"], (row["run_at"] - row["created_at"]).total_seconds()) == ("b", 2, 60)


@asynchronous
async def test_a_job_exists_if_and_when_the_caller_commits_async(
    connection: OpenAsync, database: str, conn: Session
) -> None:
    mail = mail_kind()
    async with connection(database) as own:
        await own.execute("INSERT INTO users VALUES ('ann')")
        await mail.options(conn=own.conn).enqueue("ann")
        assert (users(conn), stored(conn)) == ([], [])
        await own.rollback()
    assert (users(conn), stored(conn)) == ([], [])
    async with connection(database) as own:
        await own.execute("INSERT INTO users VALUES ('bob')")
        await mail.options(conn=own.conn).enqueue("bob's 100 % ✓ :name $1")
        await own.commit()
    assert users(conn) == ["bob"]
    assert stored(conn) == [("mail", "mail", {"to": "bob's 100 % ✓ :name $1"})]


@blocking
def test_many_jobs_keep_their_order_and_a_taken_key_gives_its_job(
    connection: Open, database: str, conn: Session
) -> None:
    mail = mail_kind()
    taken = support.enqueue(conn, kind="mail", queue="mail", unique_key="u7")
    prepared = [mail.options(unique_key=f"u{n}").prepare(f"u{n}") for n in range(1_003)]
    with connection(database) as own:
        handles = mail._program.enqueue_many_sync(prepared, conn=own.conn)
        own.commit()
    expected = [job.id for job in prepared]
    expected[7] = taken
    assert [job.id for job in handles] == expected
    assert [n for n, job in enumerate(handles) if not job.created] == [7]
    assert len(stored(conn)) == 1_003


@asynchronous
async def test_many_jobs_keep_their_order_async(connection: OpenAsync, database: str, conn: Session) -> None:
    mail = mail_kind()
    prepared = [mail.prepare(f"u{n}") for n in range(1_003)]
    async with connection(database) as own:
        handles = await mail._program.enqueue_many(prepared, conn=own.conn)
        await own.commit()
    assert [job.id for job in handles] == [job.id for job in prepared]
    assert [args["to"] for _, _, args in stored(conn)] == [f"u{n}" for n in range(1_003)]


async def test_nothing_is_rung_in_the_caller_s_transaction(database: str) -> None:
    """A NOTIFY would make their commits wait for each other."""
    mail = mail_kind()
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as listening:
        await listening.execute("LISTEN holdfast_bell")
        async with psycopg_async(database) as own:
            await mail.options(conn=own.conn).enqueue("ann")
            await own.execute("NOTIFY holdfast_bell, 'the end'")
            await own.commit()
        async for notice in listening.notifies(timeout=20, stop_after=1):
            assert notice.payload == "the end"


# What is refused


@pytest.fixture
def autocommitting(database: str) -> Any:
    conn = psycopg.connect(database, autocommit=True)
    yield conn
    conn.close()


def test_a_connection_that_commits_by_itself_is_refused(autocommitting: Any, conn: Session) -> None:
    with pytest.raises(InvalidConnection, match=r"a psycopg\.Connection without an open transaction"):
        mail_kind().options(conn=autocommitting).enqueue_sync("ann")
    assert stored(conn) == []
    with autocommitting.transaction():
        mail_kind().options(conn=autocommitting).enqueue_sync("ann")
    assert len(stored(conn)) == 1


def test_django_outside_of_atomic_is_refused(database: str, conn: Session) -> None:
    with django_connection(database) as own:
        own.conn.set_autocommit(True)
        with pytest.raises(InvalidConnection, match="without an open transaction"):
            mail_kind().options(conn=own.conn).enqueue_sync("ann")
    assert stored(conn) == []


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_sqlalchemy_in_autocommit_mode_is_refused(driver: str, database: str, conn: Session) -> None:
    engine = _async_engine(database, driver).execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as own:
        with pytest.raises(InvalidConnection, match="without an open transaction"):
            await mail_kind().options(conn=own).enqueue("ann")
    blocking_engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database), isolation_level="AUTOCOMMIT"
    )
    with blocking_engine.connect() as own, pytest.raises(InvalidConnection, match="without an open transaction"):
        mail_kind().options(conn=own).enqueue_sync("ann")
    assert stored(conn) == []


async def test_asyncpg_outside_of_a_transaction_and_its_pool_are_refused(database: str, conn: Session) -> None:
    mail = mail_kind()
    async with asyncpg.create_pool(**_parts(database), min_size=1, max_size=1) as pool:
        with pytest.raises(InvalidConnection, match=r"conn is a asyncpg\.pool\.Pool; it must be a connection"):
            await mail.options(conn=pool).enqueue("ann")
        async with pool.acquire() as own:
            with pytest.raises(InvalidConnection, match="without an open transaction"):
                await mail.options(conn=own).enqueue("ann")
    assert stored(conn) == []


@pytest.mark.parametrize(
    "what",
    ["postgresql:///app", object(), sqlalchemy.create_engine("sqlite://"), ConnectionPool(open=False)],
    ids=["text", "object", "engine", "pool"],
)
def test_what_is_no_connection_is_refused_by_its_name(what: Any) -> None:
    with pytest.raises(InvalidConnection, match=rf"conn is a {type(what).__module__}.*; it must be a connection"):
        mail_kind().options(conn=what).enqueue_sync("ann")


def test_another_database_is_refused_by_its_name() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    scoped = sqlalchemy.orm.scoped_session(sqlalchemy.orm.sessionmaker(engine))
    with engine.connect() as own, sqlalchemy.orm.Session(engine) as session, scoped():
        connections: list[Any] = [own, session, scoped]
        for conn in connections:
            with pytest.raises(InvalidConnection, match="conn is a connection to sqlite; the ledger is in Postgres"):
                mail_kind().options(conn=conn).enqueue_sync("ann")


async def test_blocking_and_asyncio_are_not_mixed_up(database: str) -> None:
    with psycopg_connection(database) as own, pytest.raises(InvalidConnection, match=r"which blocks; call .* _sync"):
        await mail_kind().options(conn=own.conn).enqueue("ann")
    async with psycopg_async(database) as other:
        with pytest.raises(InvalidConnection, match="which is for asyncio; await"):
            mail_kind().options(conn=other.conn).enqueue_sync("ann")


def test_a_prepared_job_cannot_leave_its_connection_behind(database: str) -> None:
    with psycopg_connection(database) as own, pytest.raises(Exception, match="give it to enqueue_many"):
        mail_kind().options(conn=own.conn).prepare("ann")


@blocking
def test_a_database_without_the_schema_is_named_with_the_command(connection: Open, bare: str) -> None:
    with connection(bare) as own, pytest.raises(SchemaMismatch, match="run: holdfast migrate up"):
        mail_kind().options(conn=own.conn).enqueue_sync("ann")


@asynchronous
async def test_a_database_without_the_schema_is_named_with_the_command_async(connection: OpenAsync, bare: str) -> None:
    async with connection(bare) as own:
        with pytest.raises(SchemaMismatch, match="run: holdfast migrate up"):
            await mail_kind().options(conn=own.conn).enqueue("ann")
        await own.rollback()


def test_the_caller_s_own_errors_stay_their_own(database: str, conn: Session) -> None:
    """So that a program's handling of serialization failures and deadlocks goes on to work."""
    with psycopg_connection(database) as own:
        with pytest.raises(psycopg.errors.UndefinedTable):
            own.execute("SELECT FROM nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            mail_kind().options(conn=own.conn).enqueue_sync("ann")
