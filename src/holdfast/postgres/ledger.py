"""Executors of the protocol's calls: one connection each, one call at a time, each with a deadline.

Where the ledger's address is one of HTTPS, a call is a request (`rest.py`) and takes no turn.

A call that missed its deadline leaves its connection in an unknown state, so the connection is dropped with it; a late
answer can then reach nobody. The next call opens a new one.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from typing import Protocol

import psycopg

from holdfast.errors import DatabaseUnavailable
from holdfast.postgres.calls import Call, Row
from holdfast.postgres.connection import BlockingConnection, PromptConnection, connect_async, connect_sync, translated
from holdfast.postgres.dsn import is_rest, shown
from holdfast.postgres.rest import AsyncRestClient, RestClient

DEADLINE = 10.0


class Executor(Protocol):
    """Whatever runs a call of the ledger and returns its rows."""

    async def call(self, call: Call[Row]) -> list[Row]: ...


class AsyncLedger:
    """The ledger for asyncio programs. Opens its connection on first use; `close` when done."""

    def __init__(self, dsn: str, *, name: str = "holdfast", deadline: float = DEADLINE) -> None:
        self.dsn = dsn
        self._name = name
        self._deadline = deadline
        self._connection: PromptConnection | None = None
        self._rest = AsyncRestClient(dsn) if is_rest(dsn) else None
        self._turn = asyncio.Lock()

    async def call(self, call: Call[Row], *, deadline: float | None = None) -> list[Row]:
        """Run a call and return its rows.

        Raises `DatabaseUnavailable` when it cannot be known whether the call took effect (or nothing answered), and
        `WorkerGone` when the ledger says so. The protocol is made such that every call can be repeated.
        """
        if self._rest is not None:
            return [call.row(*row) for row in await self._rest.call(call, deadline or self._deadline)]
        async with self._turn:
            try:
                async with asyncio.timeout(deadline or self._deadline):
                    connection = await self._open()
                    with translated(self.dsn):
                        cursor = await connection.execute(call.text, call.parameters)
                        rows = await cursor.fetchall()
            except TimeoutError:
                self.drop()
                raise DatabaseUnavailable(
                    f"{shown(self.dsn)} did not answer {call.name} within {deadline or self._deadline:g} s"
                ) from None
            except asyncio.CancelledError:
                self.drop()
                raise
            except DatabaseUnavailable:
                self.drop()
                raise
        return list(itertools.starmap(call.row, rows))

    async def one(self, call: Call[Row]) -> Row:
        """Run a call that answers with exactly one row."""
        rows = await self.call(call)
        return rows[0]

    async def close(self) -> None:
        if self._rest is not None:
            await self._rest.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def _open(self) -> PromptConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_async(
                self.dsn, application_name=self._name, statement_timeout=self._deadline
            )
        return self._connection

    def drop(self) -> None:
        """Cut the connection, without asking the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.pgconn.finish()


class LedgerPool:
    """A few `AsyncLedger`s of one program; a call takes one that is free.

    Who waits for one waits within its deadline.
    """

    def __init__(self, dsn: str, *, size: int = 4, name: str = "holdfast", deadline: float = DEADLINE) -> None:
        self._dsn = dsn
        self._deadline = deadline
        self._all = [AsyncLedger(dsn, name=name, deadline=deadline) for _ in range(size)]
        self._free: asyncio.LifoQueue[AsyncLedger] = asyncio.LifoQueue()
        self._waiting = 0
        for ledger in self._all:
            self._free.put_nowait(ledger)

    async def call(self, call: Call[Row]) -> list[Row]:
        """Run a call and return its rows; raises as `AsyncLedger.call` does."""
        began = time.monotonic()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline):
                ledger = await self._free.get()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"none of {len(self._all)} connections to {shown(self._dsn)} became free for {call.name} within"
                f" {self._deadline:g} s"
            ) from None
        finally:
            self._waiting -= 1
        try:
            return await ledger.call(call, deadline=max(began + self._deadline - time.monotonic(), 0.05))
        finally:
            self._free.put_nowait(ledger)

    async def one(self, call: Call[Row]) -> Row:
        """Run a call that answers with exactly one row."""
        return (await self.call(call))[0]

    def usage(self) -> tuple[int, int, int]:
        """How many connections there may be, how many of them are taken, and how many calls wait for one."""
        return len(self._all), len(self._all) - self._free.qsize(), self._waiting

    async def close(self) -> None:
        for ledger in self._all:
            await ledger.close()


class SyncLedger:
    """The ledger for threads and plain programs; the same calls, blocking. Safe to share between threads."""

    def __init__(self, dsn: str, *, name: str = "holdfast", deadline: float = DEADLINE) -> None:
        self.dsn = dsn
        self._name = name
        self._deadline = deadline
        self._connection: BlockingConnection | None = None
        self._rest = RestClient(dsn) if is_rest(dsn) else None
        self._turn = threading.Lock()

    def call(self, call: Call[Row]) -> list[Row]:
        """Run a call and return its rows; raises as `AsyncLedger.call` does."""
        if self._rest is not None:
            return [call.row(*row) for row in self._rest.call(call, self._deadline)]
        with self._turn:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect_sync(
                        self.dsn, application_name=self._name, statement_timeout=self._deadline
                    )
                self._connection.until = time.monotonic() + self._deadline
                with translated(self.dsn):
                    rows = self._connection.execute(call.text, call.parameters).fetchall()
            except DatabaseUnavailable:
                self._close()
                raise
        return list(itertools.starmap(call.row, rows))

    def one(self, call: Call[Row]) -> Row:
        """Run a call that answers with exactly one row."""
        return self.call(call)[0]

    def close(self) -> None:
        if self._rest is not None:
            self._rest.close()
        with self._turn:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
