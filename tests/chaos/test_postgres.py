"""Postgres in trouble: stopped, frozen, full, read-only, locked."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import LOST_AFTER, Chaos, hold_for, send, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.fixture
def load(chaos: Chaos) -> Chaos:
    """Two hosts with work for about ten seconds, in the middle of it."""
    chaos.start(2, slots=10)
    chaos.submit("innocent", 250, 0.5)
    chaos.submit("in_thread", 60, 0.3)
    chaos.submit("paid", 30, 0.2)
    chaos.busy()
    return chaos


def judge(chaos: Chaos, prove: Prove, fault: str, fault_at: float, over_at: float) -> None:
    chaos.all_ended(seconds=100)
    times = Times()
    times.recovered(chaos, fault_at, over_at)
    prove(fault, check(chaos), times, held=over_at - fault_at)


def test_postgres_is_restarted(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    load.server.restart()
    judge(load, prove, "Postgres restarted", fault_at, time.time())


def test_postgres_stays_away_longer_than_leases_last(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    load.server.kill()
    hold_for(3 * LOST_AFTER)
    load.server.start()
    judge(load, prove, "Postgres away for 6 s", fault_at, time.time())


def test_the_children_of_postgres_are_killed(load: Chaos, prove: Prove) -> None:
    """The postmaster ends all sessions and recovers."""
    fault_at = time.time()
    backends = load.ask("SELECT pid FROM pg_stat_activity WHERE application_name ~ '^holdfast (worker|settler)'")
    send(signal.SIGKILL, *(row["pid"] for row in backends))
    until(lambda: load.value("SELECT true"), "Postgres answers")
    judge(load, prove, "Postgres's children SIGKILL", fault_at, time.time())


def test_postgres_is_frozen_for_longer_than_leases_last(load: Chaos, prove: Prove) -> None:
    pids = load.server._processes()
    fault_at = send(signal.SIGSTOP, *pids)
    hold_for(3 * LOST_AFTER)
    send(signal.SIGCONT, *load.server._processes())
    judge(load, prove, "Postgres SIGSTOP for 6 s", fault_at, time.time())


def test_all_sessions_are_terminated(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    load.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
    )
    judge(load, prove, "all sessions terminated", fault_at, time.time())


def test_postgres_is_read_only_for_a_while(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    load.ask("ALTER SYSTEM SET default_transaction_read_only = on")
    load.ask("SELECT pg_reload_conf()")
    hold_for(2.5 * LOST_AFTER)
    load.ask("ALTER SYSTEM RESET default_transaction_read_only")
    load.ask("SELECT pg_reload_conf()")
    judge(load, prove, "Postgres read-only for 5 s", fault_at, time.time())


def test_no_connection_is_left(load: Chaos, prove: Prove) -> None:
    """Idle clients take what is free and what becomes free: all of the fleet's sessions are ended once."""
    fault_at = time.time()
    with _all_connections(load):
        load.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'holdfast%%' AND datname IS NOT NULL"
        )
        hold_for(2 * LOST_AFTER)
    judge(load, prove, "no connection left for 4 s", fault_at, time.time())


@contextlib.contextmanager
def _all_connections(chaos: Chaos) -> Iterator[None]:
    taken: list[psycopg.Connection[object]] = []
    stop = False

    def take() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            while not stop:
                taken.append(chaos.session("chaos idle"))

    def keep() -> None:
        while not stop:
            take()
            threading.Event().wait(0.01)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        until(lambda: len(taken) > 5, "connections are taken")
        yield
    finally:
        stop = True
        keeper.join()
        for each in taken:
            each.close()


def test_somebody_locks_the_table_of_jobs(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    with load.session("chaos lock") as conn, conn.transaction():
        conn.execute("LOCK TABLE holdfast.jobs IN ACCESS EXCLUSIVE MODE")
        hold_for(5)
    judge(load, prove, "the table of jobs is locked for 5 s", fault_at, time.time())


def test_an_old_snapshot_is_held_open_under_load(load: Chaos, prove: Prove) -> None:
    fault_at = time.time()
    with load.session("chaos snapshot") as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT count(*) FROM holdfast.jobs")
        victim = load.busy()
        killed_at = send(signal.SIGKILL, victim.pid)
        load.submit("innocent", 200, 0.1)
        load.all_ended(seconds=100)
        held = time.time() - fault_at
    times = Times()
    times.follow(load, killed_at, victim.id)
    prove("an old snapshot is held open, worker SIGKILL", check(load), times, held=held)
