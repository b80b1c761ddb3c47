"""How long leases may be trusted: each step stands before the next, and all before the ledger may give them away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.lease import LeaseTimings, Trust
from holdfast.errors import ConfigurationError

ORDER = [Trust.HEALTHY, Trust.STOP_CLAIMING, Trust.CANCEL, Trust.EXIT]


@st.composite
def timings(draw: st.DrawFn) -> LeaseTimings:
    beat = draw(st.floats(0.01, 100))
    return LeaseTimings(beat_interval=beat, lost_after=draw(st.floats(3 * beat, 1000)))


@pytest.mark.parametrize(
    ("age", "trust"),
    [
        (-1, Trust.HEALTHY),
        (0, Trust.HEALTHY),
        (9.99, Trust.HEALTHY),
        (10, Trust.STOP_CLAIMING),
        (17.99, Trust.STOP_CLAIMING),
        (18, Trust.CANCEL),
        (21.99, Trust.CANCEL),
        (22, Trust.EXIT),
        (1e9, Trust.EXIT),
    ],
)
def test_by_default_claims_stop_after_10_s_handlers_after_18_s_and_the_process_after_22_s(
    age: float, trust: Trust
) -> None:
    assert LeaseTimings().trust(age) is trust


@given(timings())
def test_a_worker_has_exited_before_the_ledger_may_declare_it_gone(timing: LeaseTimings) -> None:
    assert 0 < timing.stop_claiming_after < timing.cancel_after < timing.exit_after < timing.lost_after


@given(timings())
def test_a_single_missed_beat_does_not_stop_the_claims(timing: LeaseTimings) -> None:
    assert timing.trust(timing.beat_interval * 1.1) is Trust.HEALTHY


@given(timings(), st.floats(0, 2000), st.floats(0, 2000))
def test_trust_never_comes_back_with_age(timing: LeaseTimings, one: float, other: float) -> None:
    younger, older = sorted((one, other))
    assert ORDER.index(timing.trust(younger)) <= ORDER.index(timing.trust(older))


@pytest.mark.parametrize(("beat", "lost"), [(5, 14.9), (0, 25), (-1, 25)])
def test_timings_that_allow_no_missed_beat_are_refused_with_the_way_out(beat: float, lost: float) -> None:
    with pytest.raises(ConfigurationError, match=r"lost_after is .* s and beat_interval .* s: .* set lost_after"):
        LeaseTimings(beat_interval=beat, lost_after=lost)
