"""What is told, and when: once at its start, when it grows, and at its end."""

import pytest

from holdfast.core.incident import Finding, OpenIncident, Reason, decide, within

OPEN = OpenIncident("dead_letters", "f", "3 jobs died", 3, 60.0)


def found(arrived: int, present: int) -> Finding:
    return Finding("dead_letters", "f", "jobs died", arrived, present)


@pytest.mark.parametrize(
    ("finding", "incident", "reason"),
    [
        (found(3, 3), None, Reason.FIRST),
        (found(1, 0), None, Reason.FIRST),
        (found(0, 3), None, Reason.NOTHING),
        (found(0, 0), None, Reason.NOTHING),
        (found(1, 4), OPEN, Reason.WORSE),
        (found(1, 0), OPEN, Reason.WORSE),
        (found(0, 3), OPEN, Reason.NOTHING),
        (found(0, 0), OPEN, Reason.RESOLVED),
        (None, OPEN, Reason.RESOLVED),
    ],
)
def test_each_combination_has_its_reason(
    finding: Finding | None, incident: OpenIncident | None, reason: Reason
) -> None:
    (decision,) = decide([finding] if finding else [], [incident] if incident else [])
    assert decision.reason is reason


def test_causes_are_kept_apart() -> None:
    other = Finding("dead_letters", "g", "others", 1, 1)
    reasons = {each.key: each.reason for each in decide([other], [OPEN])}
    assert reasons == {"g": Reason.FIRST, "f": Reason.RESOLVED}


def test_what_was_not_looked_at_is_not_judged() -> None:
    blind = OpenIncident("blind", "orders-dlq", "cannot be looked at", 1, 60.0)
    assert within([OPEN, blind], {"blind": {"bills-dlq"}}) == [OPEN]
    assert within([OPEN, blind], {"blind": {"orders-dlq"}}) == [OPEN, blind]
    assert within([OPEN, blind], {"blind": ()}) == [OPEN]
