"""Open connections the one way that Holdfast needs them: with a deadline, found dead soon, safe behind a pooler."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection, waiting
from psycopg.abc import PQGen
from psycopg.adapt import AdaptersMap
from psycopg.types.json import set_json_loads
from pydantic_core import from_json

from holdfast.errors import (
    DatabaseRefused,
    DatabaseUnavailable,
    IdempotencyKeyReused,
    InvalidValue,
    NeedsConnection,
    SchemaMismatch,
    WorkerGone,
)
from holdfast.postgres.dsn import is_pooled, is_rest, note_pooled, shown
from holdfast.postgres.hosts import hosts_in_turn, note_host

CONNECT_TIMEOUT = 5


def _read_json(data: bytes | str) -> Any:
    """JSON of the ledger, several times faster than json.loads; which reads what is nested too deeply for this."""
    try:
        return from_json(data)
    except ValueError:
        return json.loads(data, parse_int=_read_int)


def _read_int(digits: str) -> int | str:
    """A whole number; as text where it has more digits than Python reads, which Postgres stores all the same."""
    try:
        return int(digits)
    except ValueError:
        return digits


_ADAPTERS = AdaptersMap(psycopg.adapters)
set_json_loads(_read_json, _ADAPTERS)
_TICK = 0.1

#: A refused connection has no SQLSTATE in the driver, only the server's words.
_REFUSED = re.compile(r"FATAL: .*(authentication failed|does not exist|no pg_hba.conf entry|not permitted)")
_PID = "SELECT pg_catalog.pg_backend_pid()"
_T = TypeVar("_T")

#: A peer that vanished without a word is noticed within about ten seconds, on our side of the wire.
_TCP = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: The same for the server's side, and an end to statements that nobody waits for any more. A transaction pooler
#: refuses such session settings, so they are for direct connections.
_SERVER_SIDE = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
)


class BlockingConnection(Connection[Any]):
    """A blocking connection whose waits end at `until` (monotonic time), even when the server is frozen."""

    until = float("inf")

    def wait(self, gen: PQGen[_T], interval: float = _TICK, timeout: float | None = None) -> _T:
        if timeout is None and self.until != float("inf"):
            timeout = max(self.until - time.monotonic(), 0.001)
        return super().wait(gen, interval, timeout)


class PromptConnection(AsyncConnection[Any]):
    """An asyncio connection that can be given up at once.

    The driver answers a cancelled wait by asking the server to cancel, and waits for its answer; with a frozen server
    that takes seconds. Ours is dropped instead; the server's own statement_timeout ends what nobody waits for.
    """

    async def wait(self, gen: PQGen[_T], interval: float = _TICK, timeout: float | None = None) -> _T:
        return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)


def parameters(dsn: str, *, application_name: str, statement_timeout: float | None = None) -> dict[str, Any]:
    """Keyword arguments for the driver's `connect`. `statement_timeout` in seconds, for direct connections."""
    if is_rest(dsn):
        raise NeedsConnection(
            f"{application_name} needs a connection to Postgres, and here is HTTPS alone: set DATABASE_URL, where that"
            " gets through"
        )
    wanted: dict[str, Any] = {
        "autocommit": True,
        "context": _ADAPTERS,
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": application_name,
        **_TCP,
    }
    if is_pooled(dsn):
        wanted["prepare_threshold"] = None
    else:
        timeout = "" if statement_timeout is None else f" -c statement_timeout={int(statement_timeout * 1000)}"
        wanted["options"] = _SERVER_SIDE + timeout
    return wanted


def connect_sync(dsn: str, *, application_name: str, statement_timeout: float | None = None) -> BlockingConnection:
    """A blocking connection in autocommit mode; `DatabaseUnavailable` when none comes about within 5 seconds."""

    def given() -> dict[str, Any]:
        return parameters(dsn, application_name=application_name, statement_timeout=statement_timeout)

    with translated(dsn), hosts_in_turn(dsn) as hosts:
        try:
            connection = BlockingConnection.connect(dsn, **given(), **hosts)
        except psycopg.OperationalError as error:
            if not _is_poolers_refusal(dsn, error):
                raise
            connection = BlockingConnection.connect(dsn, **given(), **hosts)
        note_host(dsn, connection.info.host, connection.info.port)
        if not is_pooled(dsn):
            connection.until = time.monotonic() + CONNECT_TIMEOUT
            _compare(dsn, connection, connection.execute(_PID).fetchone())
            connection.until = float("inf")
        return connection


async def connect_async(dsn: str, *, application_name: str, statement_timeout: float | None = None) -> PromptConnection:
    """An asyncio connection in autocommit mode; `DatabaseUnavailable` when none comes about within 5 seconds."""

    def given() -> dict[str, Any]:
        return parameters(dsn, application_name=application_name, statement_timeout=statement_timeout)

    with translated(dsn), hosts_in_turn(dsn) as hosts:
        try:
            connection = await PromptConnection.connect(dsn, **given(), **hosts)
        except psycopg.OperationalError as error:
            if not _is_poolers_refusal(dsn, error):
                raise
            connection = await PromptConnection.connect(dsn, **given(), **hosts)
        note_host(dsn, connection.info.host, connection.info.port)
        if not is_pooled(dsn):
            try:
                cursor = await connection.execute(_PID)
                _compare(dsn, connection, await cursor.fetchone())
            except BaseException:
                connection.pgconn.finish()
                raise
        return connection


def _is_poolers_refusal(dsn: str, error: psycopg.OperationalError) -> bool:
    """PgBouncer refuses our session settings, which tells that it is there: without them it lets us in."""
    if is_pooled(dsn) or "unsupported startup parameter" not in str(error):
        return False
    note_pooled(dsn)
    return True


def _compare(dsn: str, connection: "Connection[Any] | AsyncConnection[Any]", answer: Any) -> None:
    """Whoever we reached says another process id than the server that answers: there is a pooler in between."""
    if answer is not None and answer[0] != connection.info.backend_pid:
        note_pooled(dsn)
        connection.prepare_threshold = None


@contextmanager
def translated(dsn: str | None = None) -> Iterator[None]:
    """Turn the driver's errors that mean something to a caller into ours; leave the others as they are."""
    try:
        yield
    except psycopg.errors.Error as error:
        translation = _translate(error, dsn)
        if translation is None:
            raise
        raise translation from error


def _translate(error: psycopg.Error, dsn: str | None) -> Exception | None:
    reason = str(error).strip().partition("\n")[0]
    if error.sqlstate == "HF001":
        return WorkerGone(reason)
    if error.sqlstate == "HF002":
        return IdempotencyKeyReused(reason)
    if error.sqlstate in ("3F000", "42883", "42P01") and ("holdfast." in reason or '"holdfast"' in reason):
        return SchemaMismatch(
            f"the database has no Holdfast schema of this version ({reason}); run: holdfast migrate up"
        )
    if error.sqlstate == "42703" and dsn is not None:  # all statements of a ledger are ours
        return SchemaMismatch(
            f"the schema holdfast is not that of this version ({reason}); see: holdfast migrate status"
        )
    if error.sqlstate in ("28P01", "28000", "3D000") or (error.sqlstate is None and _REFUSED.search(reason)):
        return DatabaseRefused(f"{_place(dsn)} refuses the connection: {reason}; check DATABASE_URL")
    if error.sqlstate == "42501":
        return DatabaseRefused(f"{_place(dsn)}: {reason}; use a role that owns the schema holdfast, or was granted it")
    if isinstance(error, psycopg.DataError):
        return InvalidValue(reason)
    # The last of the three is, most often, a server that is read-only for now: a standby, or in a fail-over.
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError):
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P", "53")):
            return DatabaseUnavailable(f"{_place(dsn)} cannot be reached: {reason}")
        return DatabaseUnavailable(f"{_place(dsn)} could not do it now: {reason}")
    return None


def _place(dsn: str | None) -> str:
    return "the database" if dsn is None else shown(dsn)
