"""The health watch: readiness, and what it sees of ledgers in every condition."""

import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from holdfast.core.health import Limits, Status
from holdfast.core.readiness import NotReady
from holdfast.postgres.migrate import load
from holdfast.services.health import HealthWatch, Look, Rhythm
from tests.services.helpers import relay_to, until
from tests.support import Session

NEWEST = load()[-1].version
#: As quick as a busy machine allows.
QUICK = Rhythm(ping=0.1, ping_deadline=1.0, look=0.1, slow=0.1, look_deadline=0.3, itself=0.1, stuck=0.5)
STUCK = Rhythm().stuck


@pytest.fixture
async def watch(database: str) -> AsyncIterator[HealthWatch]:
    made = HealthWatch(database, schema_version=NEWEST)
    yield made
    await made.stop()


async def test_a_ledger_that_answers_is_ready(watch: HealthWatch) -> None:
    assert watch.readiness() is NotReady.STARTING
    assert (await watch.ping()).problem is None
    assert watch.readiness() is None


async def test_an_outage_is_no_reason_to_be_taken_out_unless_it_is_asked_for(database: str) -> None:
    async with relay_to(database) as relay:
        watch = HealthWatch(relay.dsn, schema_version=NEWEST)
        await watch.ping()
        await relay.down()
        await watch.ping()
        assert (watch.readiness(), watch.readiness(database=True)) == (None, NotReady.UNAVAILABLE)
        await watch.stop()


async def test_an_instance_that_drains_is_not_ready(watch: HealthWatch) -> None:
    await watch.ping()
    watch.draining = True
    assert watch.readiness() is NotReady.DRAINING


async def test_a_look_that_hangs_hides_no_other(database: str, connect: Callable[[], Session]) -> None:
    """Somebody holds a lock on what the look at notifications reads."""
    watch = HealthWatch(database, schema_version=NEWEST, rhythm=QUICK)
    await watch.refresh()
    holder = connect()
    with holder.transaction():
        holder.execute("LOCK holdfast.notifications IN ACCESS EXCLUSIVE MODE")
        await watch.start()
        await until(lambda: look(watch, "told").failed >= 2)
        assert look(watch, "workers").failed == look(watch, "monitors").failed == 0
        assert watch.readiness(database=True) is None
    await until(lambda: look(watch, "told").failed == 0)
    await watch.stop()


async def test_a_check_that_nobody_judged_for_a_while_fails(database: str) -> None:
    watch = HealthWatch(database, schema_version=NEWEST, limits=Limits(worsen=1, clear=1))
    await watch.refresh()
    look(watch, "queues").judged_at = time.monotonic() - STUCK - 1
    found = {each.name: each for each in watch.health().checks}
    assert found["queues"].status is Status.FAIL
    assert found["queues"].output.startswith("this check has not run for 2")
    assert found["monitors"].output.startswith("no monitor has ever swept")
    look(watch, "queues").judged_at = time.monotonic() - 3 * STUCK - 1
    assert watch.stuck() == [f"queues was not looked at for {3 * STUCK + 1:.0f} s"]
    await watch.stop()


async def test_an_outage_however_long_is_no_fault_of_this_process() -> None:
    """Each ping takes longer than its rhythm then; the other checks grow old all the same, and say so."""
    quick = replace(QUICK, ping_deadline=0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x"
        watch = HealthWatch(dsn, schema_version=NEWEST, limits=Limits(worsen=1, clear=1), rhythm=quick)
        await watch.start()
        began = time.monotonic()
        await until(lambda: all((each.judged_at or 0.0) > began + 3 * quick.stuck for each in watch.looks()))
        outputs = {each.name: each.output for each in watch.health().checks}
        assert watch.stuck() == []
        assert outputs["jobs"] == "not known: never seen"
        await watch.stop()


async def test_an_error_of_a_look_is_told_by_its_number_only(bare: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watch = HealthWatch(bare, schema_version=NEWEST, limits=Limits(worsen=1, clear=1))
    await watch.refresh()
    queues = next(each for each in watch.health().checks if each.name == "queues")
    error_id = look(watch, "queues").error_id
    assert queues.output == f"not known: never seen (error {error_id} in the log)"
    assert f"(error {error_id}): " in caplog.text
    await watch.stop()


def look(watch: HealthWatch, name: str) -> Look:
    return next(each for each in watch.looks() if each.name == name)


async def test_a_newer_schema_serves_us_and_an_older_one_does_not(watch: HealthWatch, conn: Session) -> None:
    conn.execute("INSERT INTO holdfast.schema_migrations (version, name, checksum) VALUES (999, '999_future', 'x')")
    await watch.ping()
    assert watch.readiness() is None
    conn.execute("DELETE FROM holdfast.schema_migrations WHERE version >= %s", (NEWEST,))
    await watch.ping()
    assert watch.readiness() is NotReady.SCHEMA


async def test_a_database_without_a_schema_is_not_ready(bare: str) -> None:
    watch = HealthWatch(bare, schema_version=NEWEST)
    assert (await watch.ping()).problem is NotReady.SCHEMA
    await watch.stop()


async def test_a_database_that_nobody_serves_is_unavailable() -> None:
    watch = HealthWatch("postgresql://u:hunter2@127.0.0.1:1/x", schema_version=NEWEST)
    assert (await watch.ping()).problem is NotReady.UNAVAILABLE
    await watch.stop()


async def test_a_database_that_never_answers_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        watch = HealthWatch(f"postgresql://u@127.0.0.1:{port}/x", schema_version=NEWEST, rhythm=QUICK)
        assert (await watch.ping()).problem is NotReady.UNAVAILABLE
        await watch.stop()


async def test_it_pings_in_the_background_until_stopped(watch: HealthWatch) -> None:
    await watch.start()
    await until(lambda: watch.readiness() is None)
    await watch.stop()
    await watch.stop()
