"""Hosts with networks of their own, cut off from Postgres in both directions or in one."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.postgres.migrate import migrate_up
from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove, chaos_on
from tests.chaos.harness import Chaos, hold_for, until
from tests.chaos.hosts import Host, network
from tests.chaos.tcp import SETTINGS, TcpPostgres, loopback

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root; test_network.py needs none"),
]

WAYS = {
    "in both directions": Host.cut,
    "from what it should hear": Host.deaf,
    "from what it should be heard by": Host.mute,
}


@pytest.fixture
def hosts() -> Iterator[tuple[str, list[Host]]]:
    with network(2) as made:
        yield made


@pytest.fixture
def chaos(hosts: tuple[str, list[Host]], seed: int) -> Iterator[Chaos]:
    base = Path(tempfile.mkdtemp(prefix="holdfast-chaos-hosts-", dir="/tmp"))
    base.chmod(0o755)
    hub, _ = hosts
    server = TcpPostgres(base / "data", f"{hub},{loopback()}", dict(SETTINGS))
    try:
        server.start()
        server.open_to(f"{hub}/24")
        migrate_up(server.dsn)
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute("SELECT pg_reload_conf()")
        with chaos_on(server, server.dsn, seed) as made:
            yield made
    finally:
        server.kill()
        with contextlib.suppress(Exception):
            server.stop()
        shutil.rmtree(base, ignore_errors=True)


@pytest.mark.parametrize("way", WAYS)
def test_a_host_is_cut_off_for_longer_than_leases_last(
    chaos: Chaos, hosts: tuple[str, list[Host]], prove: Prove, way: str
) -> None:
    _cut_off(chaos, hosts[1], prove, way, 5)


@pytest.mark.full
@pytest.mark.parametrize("seconds", [30, 60])
@pytest.mark.parametrize("way", WAYS)
def test_a_host_is_cut_off_for_long(
    chaos: Chaos, hosts: tuple[str, list[Host]], prove: Prove, way: str, seconds: int
) -> None:
    _cut_off(chaos, hosts[1], prove, way, seconds)


def _cut_off(chaos: Chaos, hosts: list[Host], prove: Prove, way: str, seconds: int) -> None:
    assert isinstance(chaos.server, TcpPostgres)
    first, second = (chaos.start(slots=10, dsn=chaos.server.tcp, prefix=host.prefix)[0] for host in hosts)
    chaos.submit("innocent", 12, 4.0)  # they would run on behind the cut, if nobody stopped them
    chaos.submit("innocent", 60 + 20 * seconds, 0.5)
    chaos.submit("in_thread", 40, 0.3)
    chaos.submit("paid", 30, 0.2)
    victim = chaos.busy(first.workers)
    fault_at = time.time()
    with WAYS[way](hosts[0]):
        until(lambda: chaos.gone_at(victim.id), "the other host missed it")
        hold_for(max(0.0, fault_at + seconds - time.time()))
    over_at = time.time()
    until(first.workers, "the host is back at work")
    assert second.process.poll() is None
    chaos.all_ended(seconds=120)
    times = Times()
    times.follow(chaos, fault_at, victim.id)
    prove(f"a host is cut off {way} for {seconds} s", check(chaos), times, held=over_at - fault_at)
