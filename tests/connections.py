"""Other libraries' connections to a test's database, each behind the same few verbs: what must hold on all of them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import django
import django.conf
import psycopg
import psycopg2
import psycopg2.extras
import sqlalchemy
from django.db.utils import ConnectionHandler
from django.utils.connection import ConnectionProxy
from psycopg import conninfo
from psycopg.rows import dict_row
from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker


@dataclass
class Blocking:
    """`conn` is what a program would pass; its transaction is open."""

    conn: Any
    execute: Callable[[str], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]


@dataclass
class Asynchronous:
    conn: Any
    execute: Callable[[str], Awaitable[Any]]
    commit: Callable[[], Awaitable[Any]]
    rollback: Callable[[], Awaitable[Any]]


def _parts(dsn: str) -> dict[str, Any]:
    known = conninfo.conninfo_to_dict(dsn)
    return {"host": known["host"], "port": known.get("port"), "user": known.get("user"), "database": known["dbname"]}


@contextmanager
def psycopg_connection(dsn: str) -> Iterator[Blocking]:
    with psycopg.connect(dsn) as conn:
        yield Blocking(conn, lambda text: conn.execute(text.encode()), conn.commit, conn.rollback)
        conn.rollback()


@contextmanager
def psycopg_with_rows_as_dicts(dsn: str) -> Iterator[Blocking]:
    """In autocommit mode, with a transaction begun by hand."""
    with psycopg.connect(dsn, row_factory=dict_row, cursor_factory=psycopg.RawCursor, autocommit=True) as conn:
        conn.execute("BEGIN")
        yield Blocking(conn, lambda text: conn.execute(text.encode()), conn.commit, conn.rollback)
        conn.rollback()


@contextmanager
def psycopg2_connection(dsn: str) -> Iterator[Blocking]:
    conn = psycopg2.connect(dsn, cursor_factory=psycopg2.extras.RealDictCursor)
    yield Blocking(conn, lambda text: conn.cursor().execute(text), conn.commit, conn.rollback)
    conn.close()


@contextmanager
def sqlalchemy_connection(dsn: str) -> Iterator[Blocking]:
    with create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn)).connect() as conn:
        yield Blocking(conn, lambda text: conn.execute(sqlalchemy.text(text)), conn.commit, conn.rollback)


@contextmanager
def sqlalchemy_connection_over_psycopg2(dsn: str) -> Iterator[Blocking]:
    with create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(dsn)).connect() as conn:
        yield Blocking(conn, lambda text: conn.execute(sqlalchemy.text(text)), conn.commit, conn.rollback)


@contextmanager
def sqlalchemy_session(dsn: str) -> Iterator[Blocking]:
    with Session(create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))) as session:
        yield Blocking(session, lambda text: session.execute(sqlalchemy.text(text)), session.commit, session.rollback)


@contextmanager
def sqlalchemy_scoped_session(dsn: str) -> Iterator[Blocking]:
    """What Flask-SQLAlchemy gives as `db.session`."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    session = scoped_session(sessionmaker(engine))
    yield Blocking(session, lambda text: session.execute(sqlalchemy.text(text)), session.commit, session.rollback)
    session.remove()


@contextmanager
def django_connection(dsn: str) -> Iterator[Blocking]:
    """What `from django.db import connection` gives, inside `atomic()`."""
    if not django.conf.settings.configured:
        django.conf.settings.configure()
        django.setup()
    parts = _parts(dsn)
    names = {"NAME": parts["database"], "HOST": parts["host"], "PORT": parts["port"] or "", "USER": parts["user"] or ""}
    handler = ConnectionHandler({"default": {"ENGINE": "django.db.backends.postgresql", **names}})
    conn = ConnectionProxy(handler, "default")
    conn.set_autocommit(False)
    yield Blocking(conn, lambda text: conn.cursor().execute(text), conn.commit, conn.rollback)
    conn.close()


BLOCKING = [
    psycopg_connection,
    psycopg_with_rows_as_dicts,
    psycopg2_connection,
    sqlalchemy_connection,
    sqlalchemy_connection_over_psycopg2,
    sqlalchemy_session,
    sqlalchemy_scoped_session,
    django_connection,
]


@asynccontextmanager
async def psycopg_async(dsn: str) -> AsyncIterator[Asynchronous]:
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=dict_row) as conn:
        yield Asynchronous(conn, lambda text: conn.execute(text.encode()), conn.commit, conn.rollback)
        await conn.rollback()


@asynccontextmanager
async def asyncpg_connection(dsn: str) -> AsyncIterator[Asynchronous]:
    """With codecs of its own for JSON, as many programs set them."""
    conn = await asyncpg.connect(**_parts(dsn))
    for name in ("json", "jsonb"):
        await conn.set_type_codec(name, encoder=repr, decoder=repr, schema="pg_catalog")
    transaction = conn.transaction()
    await transaction.start()
    yield Asynchronous(conn, conn.execute, transaction.commit, transaction.rollback)
    await conn.close()


@asynccontextmanager
async def asyncpg_pooled(dsn: str) -> AsyncIterator[Asynchronous]:
    async with asyncpg.create_pool(**_parts(dsn), min_size=1, max_size=1) as pool, pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        yield Asynchronous(conn, conn.execute, transaction.commit, transaction.rollback)
        if conn.is_in_transaction():
            await transaction.rollback()


def _async_engine(dsn: str, driver: str) -> Any:
    async def connect(*_: Any, **__: Any) -> Any:
        if driver == "asyncpg":
            return await asyncpg.connect(**_parts(dsn))
        return await psycopg.AsyncConnection.connect(dsn)

    return create_async_engine(f"postgresql+{driver}://", async_creator=connect, poolclass=NullPool)


@asynccontextmanager
async def sqlalchemy_async_connection(dsn: str) -> AsyncIterator[Asynchronous]:
    async with _async_engine(dsn, "asyncpg").connect() as conn:
        yield Asynchronous(conn, lambda text: conn.execute(sqlalchemy.text(text)), conn.commit, conn.rollback)


@asynccontextmanager
async def sqlalchemy_async_session(dsn: str) -> AsyncIterator[Asynchronous]:
    async with AsyncSession(_async_engine(dsn, "asyncpg")) as session:
        yield Asynchronous(
            session, lambda text: session.execute(sqlalchemy.text(text)), session.commit, session.rollback
        )


@asynccontextmanager
async def sqlalchemy_async_scoped_session_over_psycopg(dsn: str) -> AsyncIterator[Asynchronous]:
    session = async_scoped_session(async_sessionmaker(_async_engine(dsn, "psycopg")), scopefunc=lambda: 1)
    yield Asynchronous(session, lambda text: session.execute(sqlalchemy.text(text)), session.commit, session.rollback)
    await session.remove()


ASYNCHRONOUS = [
    psycopg_async,
    asyncpg_connection,
    asyncpg_pooled,
    sqlalchemy_async_connection,
    sqlalchemy_async_session,
    sqlalchemy_async_scoped_session_over_psycopg,
]
