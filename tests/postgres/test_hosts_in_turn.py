"""Several hosts in a connection string: one that is silent keeps nobody from the next."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from holdfast.errors import DatabaseUnavailable
from holdfast.postgres.calls import Call
from holdfast.postgres.dsn import parse
from holdfast.postgres.hosts import hosts_in_turn, note_host
from holdfast.postgres.ledger import AsyncLedger, SyncLedger

ASK: Call[int] = Call("ask", "SELECT 1", (), lambda value: value)
WRITES = "target_session_attrs=read-write"


@contextmanager
def silence() -> Iterator[int]:
    """A port that neither takes nor refuses a connection, as a host without power: its queue is full."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def pair(database: str) -> Iterator[str]:
    """A silent host, and behind it the ledger."""
    parts = parse(database)
    with silence() as port:
        yield (
            f"host=127.0.0.1,{parts['host']} port={port},{parts.get('port', '5432')} user={parts['user']}"
            f" dbname={parts['dbname']} {WRITES}"
        )


async def test_a_host_that_is_silent_costs_one_call_its_deadline_and_no_other(pair: str) -> None:
    ledger = AsyncLedger(pair, deadline=0.3)
    with pytest.raises(DatabaseUnavailable):
        await ledger.call(ASK)
    for other in (ledger, AsyncLedger(pair, deadline=3)):
        assert await other.call(ASK) == [1]
        await other.close()
    sync = SyncLedger(pair, name="sync", deadline=3)
    assert sync.call(ASK) == [1]
    sync.close()


def asked(dsn: str) -> str:
    with hosts_in_turn(dsn) as hosts:
        return hosts.get("host", "")


def test_who_fails_is_asked_last_and_who_answers_first() -> None:
    dsn = f"postgresql://a:1,b:2,c:3/turns?{WRITES}"
    for expected in ("a,b,c", "b,c,a", "c,a,b", "a,b,c"):
        assert asked(dsn) == expected
        with pytest.raises(ZeroDivisionError), hosts_in_turn(dsn):
            _ = 1 / 0
    note_host(dsn, "c", 3)
    assert asked(dsn) == "c,a,b"


def test_of_many_that_wait_for_one_host_only_the_first_passes_it() -> None:
    dsn = f"postgresql://a,b/many?{WRITES}"
    with pytest.raises(ZeroDivisionError), hosts_in_turn(dsn), hosts_in_turn(dsn):
        _ = 1 / 0
    assert asked(dsn) == "b,a"


@pytest.mark.parametrize("dsn", [f"postgresql://a/one?{WRITES}", "postgresql://a,b/any", "https://:key@x.supabase.co"])
def test_one_host_and_an_order_that_is_the_caller_s_wish_are_left_alone(dsn: str) -> None:
    with pytest.raises(ZeroDivisionError), hosts_in_turn(dsn):
        _ = 1 / 0
    assert asked(dsn) == ""
