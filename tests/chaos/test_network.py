"""A bad network between one host and Postgres: an answer that is lost, a host that is cut off at the worst moment."""

import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import Chaos, hold_for, until
from tests.chaos.proxy import Proxy

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.fixture
def proxy(chaos: Chaos) -> Iterator[Proxy]:
    with Proxy(chaos.dsn) as made:
        yield made


def _names(ids: list[UUID], data: bytes) -> bool:
    return any(str(each).encode() in data for each in ids)


def test_a_claim_whose_answer_is_lost_is_given_back_without_a_cost(chaos: Chaos, proxy: Proxy, prove: Prove) -> None:
    chaos.start(slots=10, dsn=proxy.dsn)
    chaos.start(slots=2)
    ids: list[UUID] = []
    proxy.lose_answer(lambda data: _names(ids, data))
    ids += chaos.submit("innocent", 40, 0.5)
    until(proxy.hit.is_set, "the answer of a claim is lost")
    fault_at = time.time()
    chaos.all_ended()
    found = check(chaos)
    assert found.rescues.get("claim_lost", 0) > 0, found.rescues
    times = Times()
    for row in chaos.ask(
        "SELECT e.at, j.claimed_at, j.attempts FROM holdfast.job_events e JOIN holdfast.jobs j ON j.id = e.job_id"
        " WHERE e.reason = 'claim_lost'"
    ):
        assert row["attempts"] == 0
        times.detect.append(row["at"].timestamp() - fault_at)
        times.resume.append(row["claimed_at"].timestamp() - fault_at)
    prove("the answer of a claim is lost (unknown_after: 15 s)", found, times)


def test_a_slow_and_lossy_link_costs_time_and_no_job(chaos: Chaos, proxy: Proxy, prove: Prove) -> None:
    """20 to 80 ms each way, and one piece in fifty a second late, as it is when a packet has to be sent again."""
    proxy.delay(lambda: 1.0 if chaos.rng.random() < 0.02 else chaos.rng.uniform(0.02, 0.08))
    fault_at = time.time()
    chaos.start(slots=10, dsn=proxy.dsn)
    chaos.start(slots=2)
    chaos.submit("innocent", 60, 0.5)
    chaos.submit("in_thread", 20, 0.3)
    chaos.submit("paid", 20, 0.2)
    chaos.all_ended(seconds=120)
    far = {each.id for each in chaos.members[0].workers()}
    ran = chaos.value(
        "SELECT count(*) FROM chaos.history WHERE status = 'succeeded' AND worker_before = ANY (%s)", [*far]
    )
    assert ran, "the host behind the slow link did nothing"
    prove("a slow and lossy link: 40 to 160 ms there and back, 1 s for one in 25", check(chaos), Times(),
          held=time.time() - fault_at)  # fmt: skip


def test_a_host_cut_off_inside_a_claim_loses_it_to_the_others(chaos: Chaos, proxy: Proxy, prove: Prove) -> None:
    (cut_off,) = chaos.start(slots=10, dsn=proxy.dsn)
    (victim,) = cut_off.workers()
    chaos.start(slots=2)
    ids: list[UUID] = []
    proxy.silence_at_answer(lambda data: _names(ids, data))
    ids += chaos.submit("innocent", 40, 0.5)
    until(proxy.hit.is_set, "the network is silent")
    fault_at = time.time()
    until(lambda: chaos.gone_at(victim.id), "the others missed it")
    hold_for(3)
    proxy.heal()
    held = time.time() - fault_at
    chaos.all_ended()
    until(lambda: len(cut_off.workers()) == 1, "it is back under a new id")
    assert [each.id for each in cut_off.workers()] != [victim.id]
    times = Times()
    assert times.follow(chaos, fault_at, victim.id) > 0
    prove("a host is cut off inside a claim", check(chaos), times, held=held)


@pytest.mark.parametrize("deaf", [False, True], ids=["silence", "deaf"])
def test_a_host_cut_off_while_it_works_stops_its_handlers_before_others_begin(
    chaos: Chaos, proxy: Proxy, prove: Prove, deaf: bool
) -> None:
    """In both directions; and where what it says still arrives, so that its last beats count and it cannot know."""
    (cut_off,) = chaos.start(slots=10, dsn=proxy.dsn)
    chaos.start(slots=4)
    chaos.submit("innocent", 40, 1.0)
    chaos.submit("in_thread", 20, 1.0)
    chaos.submit("isolated", 6, 1.0)
    chaos.submit("paid", 6, 0.2)
    chaos.submit("innocent", 10, 6.0)
    victim = chaos.busy(cut_off.workers)
    fault_at = time.time()
    if deaf:
        proxy.lose_all_answers()
    else:
        proxy.silence()
    until(lambda: chaos.gone_at(victim.id), "the others missed it")
    hold_for(3)
    proxy.heal()
    held = time.time() - fault_at
    chaos.all_ended()
    times = Times()
    assert times.follow(chaos, fault_at, victim.id) > 0
    prove("a host hears nothing" if deaf else "a host is cut off while it works", check(chaos), times, held=held)


def test_a_host_cut_off_inside_a_transaction_leaves_one_effect(chaos: Chaos, proxy: Proxy, prove: Prove) -> None:
    (cut_off,) = chaos.start(slots=4, dsn=proxy.dsn)
    (job_id,) = chaos.submit("paid", 1, 1.5)
    (victim,) = cut_off.workers()
    until(
        lambda: chaos.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast job'"
                            " AND state = 'idle in transaction'"),
        "it is inside its transaction",
    )  # fmt: skip
    proxy.silence()
    fault_at = time.time()
    chaos.start(slots=4)
    until(lambda: chaos.gone_at(victim.id), "the others missed it")
    chaos.all_ended()
    proxy.heal()
    held = time.time() - fault_at
    times = Times()
    times.follow(chaos, fault_at, victim.id)
    assert chaos.started(job_id)
    prove("a host is cut off inside ctx.transaction", check(chaos), times, held=held)


def test_a_commit_whose_answer_is_lost_is_still_one_effect(chaos: Chaos, proxy: Proxy, prove: Prove) -> None:
    chaos.start(slots=4, dsn=proxy.dsn)
    proxy.lose_answer_to(lambda data: b"COMMIT" in data)
    chaos.submit("paid", 6, 0.2)
    until(proxy.hit.is_set, "the answer of a COMMIT is lost")
    fault_at = time.time()
    chaos.start(slots=4)
    chaos.all_ended()
    hold_for(3)
    proxy.heal()
    held = time.time() - fault_at
    chaos.submit("paid", 6, 0.1)
    chaos.all_ended()
    prove("the answer of a COMMIT is lost", check(chaos), Times(), held=held)
