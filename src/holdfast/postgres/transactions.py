"""Transactions in which a handler works and its job is settled: both happen, or neither does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from psycopg.pq import TransactionStatus

from holdfast.errors import DatabaseUnavailable, LeaseLost, TransactionFailed
from holdfast.postgres import calls
from holdfast.postgres.connection import PromptConnection, connect_async, translated

ENTRY_DEADLINE = 30.0


class Transactions:
    """A few connections of their own for handlers' transactions; who finds none free waits, with a deadline.

    `lost_after` (seconds) bounds how long a transaction may stay idle: longer than that nobody may trust its lease.
    """

    def __init__(self, dsn: str, worker_id: UUID, *, size: int = 2, lost_after: float = 25.0) -> None:
        self._dsn = dsn
        self._worker_id = worker_id
        self._free = asyncio.Semaphore(size)
        self._idle: list[PromptConnection] = []
        self._lost_after = lost_after

    @asynccontextmanager
    async def settled(self, job_id: UUID, lease: int, result: Callable[[], str]) -> AsyncIterator[PromptConnection]:
        """A transaction that ends with the settling of its job as complete, in its last statement before COMMIT.

        Raises `LeaseLost`, having rolled back, when the lease is no longer held at the beginning or at the end;
        `TransactionFailed`, where a statement in it had failed.
        """
        try:
            await asyncio.wait_for(self._free.acquire(), ENTRY_DEADLINE)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"no connection for ctx.transaction became free within {ENTRY_DEADLINE:g} s; "
                "shorten the transactions, or run fewer jobs at a time"
            ) from None
        connection = None
        try:
            connection = await self._connect()
            async with connection.transaction():
                await self._enter(connection, job_id, lease)
                yield connection
                await self._settle(connection, job_id, lease, result())
            self._idle.append(connection)
            connection = None
        finally:
            if connection is not None:
                connection.pgconn.finish()
            self._free.release()

    async def close(self) -> None:
        for connection in self._idle:
            connection.pgconn.finish()
        self._idle.clear()

    async def _connect(self) -> PromptConnection:
        """A kept connection that still answers (Postgres may have been away meanwhile), else a new one."""
        while self._idle:
            kept = self._idle.pop()
            try:
                await kept.execute("SELECT 1")
            except Exception:
                kept.pgconn.finish()
            else:
                return kept
        return await connect_async(self._dsn, application_name="holdfast job")

    async def _enter(self, connection: PromptConnection, job_id: UUID, lease: int) -> None:
        with translated(self._dsn):
            await connection.execute(
                "SELECT set_config('idle_in_transaction_session_timeout', %s, true)",
                (f"{int(self._lost_after * 1000)}",),
            )
            held = await connection.execute(
                "SELECT FROM holdfast.jobs j WHERE j.id = %s AND j.lease = %s AND j.worker_id = %s"
                " AND j.status = 'running'",
                (job_id, lease, self._worker_id),
            )
        if held.rowcount != 1:
            raise LeaseLost(f"job {job_id} is no longer held under lease {lease}; the transaction was not begun")

    async def _settle(self, connection: PromptConnection, job_id: UUID, lease: int, result: str) -> None:
        if connection.info.transaction_status is TransactionStatus.INERROR:
            raise TransactionFailed(
                "a statement in ctx.transaction failed and its error was passed over, so Postgres refuses to commit: "
                "let the error pass, or run what may fail in a savepoint (async with conn.transaction():)"
            )
        call = calls.complete_run(self._worker_id, job_id, lease, result, idle=self._lost_after)
        with translated(self._dsn):
            cursor = await connection.execute(call.text, call.parameters)
            ((verdict,),) = await cursor.fetchall()
        if verdict != "applied":
            raise LeaseLost(f"job {job_id} is no longer held under lease {lease}; the transaction was rolled back")
