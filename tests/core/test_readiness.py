"""Whether an instance should get requests."""

import pytest

from holdfast.core.readiness import FRESH, NotReady, Ping, judge_ping, judge_readiness

GOOD, AWAY = Ping(100.0, None), Ping(100.0, NotReady.UNAVAILABLE)


@pytest.mark.parametrize(
    ("last", "now", "verdict"),
    [
        (None, 100.0, NotReady.STARTING),
        (Ping(100.0, None), 100.0, None),
        (Ping(100.0, None), 100.0 + FRESH - 0.001, None),
        (Ping(100.0, None), 100.0 + FRESH, NotReady.STALE),
        (Ping(100.0, NotReady.SCHEMA), 101.0, NotReady.SCHEMA),
        (Ping(100.0, NotReady.UNAVAILABLE), 200.0, NotReady.STALE),
    ],
)
def test_an_instance_is_ready_while_its_last_ping_is_good_and_fresh(
    last: Ping | None, now: float, verdict: NotReady | None
) -> None:
    assert judge_ping(last, now) is verdict


@pytest.mark.parametrize(
    ("last", "seen", "draining", "database", "verdict"),
    [
        (None, None, False, False, NotReady.STARTING),
        (AWAY, None, False, False, NotReady.UNAVAILABLE),
        (GOOD, 13, False, False, None),
        (AWAY, 13, False, False, None),
        (AWAY, 13, False, True, NotReady.UNAVAILABLE),
        (GOOD, 13, False, True, None),
        (GOOD, 13, True, False, NotReady.DRAINING),
        (GOOD, 13, True, True, NotReady.DRAINING),
        (Ping(100.0, NotReady.SCHEMA), 14, False, False, NotReady.SCHEMA),
        (Ping(100.0, NotReady.SCHEMA), None, False, False, NotReady.SCHEMA),
        (AWAY, 12, False, False, NotReady.SCHEMA),
        (GOOD, 14, False, False, None),
    ],
)
def test_an_outage_is_no_reason_unless_it_is_asked_for(
    last: Ping | None, seen: int | None, draining: bool, database: bool, verdict: NotReady | None
) -> None:
    assert judge_readiness(last, 101.0, (seen, 13), draining=draining, database=database) is verdict
