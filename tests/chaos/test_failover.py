"""A standby takes over: where it was synchronous nothing is lost, and where it was not, what is lost is said."""

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from holdfast.errors import JobNotFound
from holdfast.postgres.migrate import migrate_up
from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove, chaos_on
from tests.chaos.harness import Chaos, send, until
from tests.chaos.tcp import SETTINGS, TcpPostgres, loopback, standby_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

NAME = "standby"


@dataclass
class Pair:
    """A primary and its standby, and the connection string that leads to whichever takes writes."""

    primary: TcpPostgres
    standby: TcpPostgres

    @property
    def dsn(self) -> str:
        hosts = f"{self.primary.addresses},{self.standby.addresses}"
        return self.primary.tcp.replace(self.primary.addresses, hosts) + "?target_session_attrs=read-write"

    def make_synchronous(self) -> None:
        with psycopg.connect(self.primary.dsn, autocommit=True) as conn:
            conn.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'".encode())
            conn.execute("SELECT pg_reload_conf()")
        until(lambda: self._asked("SELECT sync_state = 'sync' FROM pg_stat_replication"), "the standby is synchronous")

    def wait_for_the_standby(self) -> None:
        """Until it has all that the primary has written by now."""
        behind = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication"
        until(lambda: self._asked(behind), "the standby has caught up")

    def _asked(self, query: str) -> bool:
        with psycopg.connect(self.primary.dsn, autocommit=True) as conn:
            return [row[0] for row in conn.execute(query.encode()).fetchall()] == [True]


@pytest.fixture
def pair() -> Iterator[Pair]:
    base = Path(tempfile.mkdtemp(prefix="holdfast-chaos-pair-", dir="/tmp"))
    base.chmod(0o755)
    primary = TcpPostgres(base / "primary", loopback(), dict(SETTINGS))
    servers = [primary]
    try:
        primary.start()
        primary.open_to("127.0.0.0/8")
        migrate_up(primary.dsn)
        with psycopg.connect(primary.dsn, autocommit=True) as conn:
            conn.execute("SELECT pg_reload_conf()")
        servers.append(standby_of(primary, base / "standby", name=NAME))
        yield Pair(*servers)
    finally:
        for server in servers:
            server.kill()
            with contextlib.suppress(Exception):
                server.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def chaos(pair: Pair, seed: int) -> Iterator[Chaos]:
    with chaos_on(pair.primary, pair.dsn, seed) as made:
        yield made


def test_a_synchronous_standby_takes_over_and_nothing_is_lost(pair: Pair, chaos: Chaos, prove: Prove) -> None:
    pair.make_synchronous()
    chaos.start(2, slots=10)
    chaos.submit("innocent", 250, 0.5)
    chaos.submit("in_thread", 60, 0.3)
    chaos.submit("paid", 30, 0.2)
    chaos.busy()
    fault_at = time.time()
    pair.primary.kill()
    pair.standby.promote()
    over_at = time.time()
    until(lambda: chaos.value("SELECT NOT pg_is_in_recovery()"), "the standby is the primary")
    chaos.submit("innocent", 20, 0.1)
    chaos.all_ended(seconds=100)
    times = Times()
    times.recovered(chaos, fault_at, over_at)
    prove("fail-over to a synchronous standby", check(chaos), times, held=over_at - fault_at)


def test_a_primary_that_falls_silent_is_left_for_the_standby(pair: Pair, chaos: Chaos, prove: Prove) -> None:
    """Its host takes connections, and nobody answers: nothing is refused, and whoever waits, waits in vain."""
    pair.make_synchronous()
    chaos.start(2, slots=10)
    chaos.submit("innocent", 150, 0.5)
    chaos.submit("paid", 20, 0.2)
    chaos.busy()
    fault_at = time.time()
    send(signal.SIGSTOP, *pair.primary._processes())
    chaos.forget_connection()
    pair.standby.promote()
    over_at = time.time()
    until(lambda: chaos.value("SELECT NOT pg_is_in_recovery()"), "the standby is the primary")
    chaos.all_ended(seconds=100)
    times = Times()
    times.recovered(chaos, fault_at, over_at)
    prove("fail-over from a primary that is silent", check(chaos), times, held=over_at - fault_at)


def test_what_an_asynchronous_standby_had_not_received_is_lost_and_said(pair: Pair, chaos: Chaos, prove: Prove) -> None:
    chaos.start(1, slots=2)
    chaos.submit("innocent", 30, 0.5)
    chaos.submit("paid", 5, 0.2)
    chaos.busy(least=2)
    pair.wait_for_the_standby()
    pair.standby.stop()  # the network to it is gone, say
    behind = chaos.submit("innocent", 5, 0.1)
    fault_at = time.time()
    pair.primary.kill()
    pair.standby.start()
    pair.standby.promote()
    over_at = time.time()
    for id in behind:
        chaos.submitted.pop(id)
        with pytest.raises(JobNotFound):
            chaos.app.hf.handle(id).result_sync(timeout=30)
    chaos.all_ended(seconds=100)
    times = Times()
    times.recovered(chaos, fault_at, over_at)
    found = check(chaos)
    found.lost = len(behind)  # by Postgres, which was not told to wait; none of ours beyond them
    prove(
        f"fail-over to an asynchronous standby that is {len(behind)} jobs behind", found, times, held=over_at - fault_at
    )
