"""The caller's own connections: a statement of ours inside the transaction that they have open.

The statements are those of `calls`, and all their parameters are text, so a connection needs no more than this: a way
to execute, and a way to tell whether a transaction is open. A connection is known by its class and the module of that
class, so no library is imported that the program does not use itself. Nothing here commits, rolls back or closes.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from holdfast.errors import InvalidConnection, SchemaMismatch
from holdfast.postgres.calls import Call, Row

KNOWN = "a connection or session of psycopg, SQLAlchemy, asyncpg, Django or psycopg2"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_MISSING = ("3F000", "42883", "42P01")


def run(conn: object, call: Call[Row]) -> list[Row]:
    """Execute on a blocking connection; its rows.

    Raises `InvalidConnection`, `SchemaMismatch`, and else what the caller's own library raises.
    """
    library = _library(conn)
    if _is_async(conn, library):
        raise InvalidConnection(f"conn is {_named(conn)}, which is for asyncio; await the method without _sync")
    try:
        match library:
            case "sqlalchemy":
                rows = _sqlalchemy(conn, call)
            case "psycopg":
                rows = _psycopg(conn, call)
            case _:
                rows = _dbapi(conn, call)
    except Exception as error:
        _explain(error)
        raise
    return _read(call, rows)


async def run_async(conn: object, call: Call[Row]) -> list[Row]:
    """Execute on an asyncio connection; its rows. Raises as `run` does."""
    library = _library(conn)
    if not _is_async(conn, library):
        raise InvalidConnection(f"conn is {_named(conn)}, which blocks; call the method whose name ends in _sync")
    try:
        match library:
            case "sqlalchemy":
                rows = await _sqlalchemy_async(conn, call)
            case "asyncpg":
                rows = await _asyncpg(conn, call)
            case _:
                rows = await _psycopg_async(conn, call)
    except Exception as error:
        _explain(error)
        raise
    return _read(call, rows)


# Which library ---------------------------------------------------------------------------------------------------


def _library(conn: object) -> str:
    """psycopg, sqlalchemy, asyncpg, django or psycopg2; `InvalidConnection` for anything else, a pool or an engine."""
    for cls in type(conn).__mro__:
        library = cls.__module__.partition(".")[0]
        if cls.__name__ in _CONNECTIONS.get(library, ()):
            return library
    raise InvalidConnection(f"conn is {_named(conn)}; it must be {KNOWN}, with its transaction open")


_CONNECTIONS: Mapping[str, tuple[str, ...]] = {
    "psycopg": ("Connection", "AsyncConnection"),
    "sqlalchemy": (
        "Connection",
        "Session",
        "scoped_session",
        "AsyncConnection",
        "AsyncSession",
        "async_scoped_session",
    ),
    "asyncpg": ("Connection", "PoolConnectionProxy"),
    "django": ("ConnectionProxy", "BaseDatabaseWrapper"),
    "psycopg2": ("connection",),
}


def _is_async(conn: object, library: str) -> bool:
    return library == "asyncpg" or inspect.iscoroutinefunction(getattr(type(conn), "execute", None))


def _named(conn: object) -> str:
    return f"a {type(conn).__module__}.{type(conn).__qualname__}"


def _require_transaction(is_open: bool, conn: object) -> None:
    """In autocommit mode our statement would be committed at once, whatever became of the caller's own."""
    if not is_open:
        raise InvalidConnection(
            f"conn is {_named(conn)} without an open transaction, so this would be committed at once and by itself; "
            "begin a transaction around it, or leave conn out"
        )


def _require_postgres(database: str) -> None:
    if database != "postgresql":
        raise InvalidConnection(f"conn is a connection to {database}; the ledger is in Postgres")


# How each executes -----------------------------------------------------------------------------------------------


def _psycopg(conn: Any, call: Call[Any]) -> list[Any]:
    _require_transaction(_is_in_transaction(conn), conn)
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        return cursor.execute(call.text, call.parameters).fetchall()


async def _psycopg_async(conn: Any, call: Call[Any]) -> list[Any]:
    _require_transaction(_is_in_transaction(conn), conn)
    async with psycopg.AsyncCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(call.text, call.parameters)
        return await cursor.fetchall()


def _is_in_transaction(conn: Any) -> bool:
    return not conn.autocommit or conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE


def _dbapi(conn: Any, call: Call[Any]) -> list[Any]:
    """Django's connection (whatever driver is below it) and psycopg2's."""
    _require_postgres(getattr(conn, "vendor", "postgresql"))
    autocommit = conn.get_autocommit() if hasattr(conn, "get_autocommit") else conn.autocommit
    _require_transaction(not autocommit, conn)
    with conn.cursor() as cursor:
        cursor.execute(call.text, call.parameters)
        rows: list[Any] = cursor.fetchall()
    return rows


async def _asyncpg(conn: Any, call: Call[Any]) -> list[Any]:
    _require_transaction(conn.is_in_transaction(), conn)
    names = list(dict.fromkeys(_PLACEHOLDER.findall(call.text)))
    text = _PLACEHOLDER.sub(lambda found: f"${names.index(found[1]) + 1}", call.text)
    rows: list[Any] = await conn.fetch(text, *(_named_parameters(call)[name] for name in names))
    return rows


def _sqlalchemy(conn: Any, call: Call[Any]) -> list[Any]:
    connection = conn.connection() if callable(conn.connection) else conn
    _require_postgres(connection.dialect.name)
    _require_transaction(not _commits_by_itself(connection), conn)
    return list(conn.execute(_clause(call), call.parameters))


async def _sqlalchemy_async(conn: Any, call: Call[Any]) -> list[Any]:
    connection = conn if hasattr(conn, "sync_connection") else await conn.connection()
    _require_postgres(connection.dialect.name)
    _require_transaction(not _commits_by_itself(connection.sync_connection), conn)
    return list(await conn.execute(_clause(call), call.parameters))


def _clause(call: Call[Any]) -> Any:
    """The statement in SQLAlchemy's own words, so that it fits whatever driver is below."""
    return sys.modules["sqlalchemy"].text(_PLACEHOLDER.sub(r":\1", call.text))


def _commits_by_itself(connection: Any) -> bool:
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


# What comes back -------------------------------------------------------------------------------------------------


def _named_parameters(call: Call[Any]) -> Mapping[str, Any]:
    assert isinstance(call.parameters, dict)
    return call.parameters


def _read(call: Call[Row], rows: Iterable[Any]) -> list[Row]:
    """A connection may be set to give its rows as dicts."""
    return [call.row(*(row.values() if isinstance(row, Mapping) else row)) for row in rows]


def _explain(error: Exception) -> None:
    """Raise ours where the database lacks the schema; the other errors are the caller's own, for their own handlers."""
    original = getattr(error, "orig", None) or error.__cause__ or error
    code = getattr(error, "sqlstate", None) or getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    reason = str(original).strip().partition("\n")[0]
    if code in _MISSING and "holdfast" in reason:
        raise SchemaMismatch(
            f"the database of conn has no Holdfast schema of this version ({reason}); run: holdfast migrate up"
        ) from error
