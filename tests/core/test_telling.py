"""What people are told: names and counts, and nothing that a message or an error said."""

from datetime import UTC, datetime

from holdfast.core import telling
from holdfast.core.incident import Decision, OpenIncident, Reason
from holdfast.core.letters import LetterGroup

GROUP = LetterGroup("f", "mail", "job", "send", "ValueError", 3, 5, datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "id-1")
INCIDENT = OpenIncident("dead_letters", "f", "3 jobs of send died", 3, 5400.0)


def test_dead_jobs_are_told_with_the_command_to_look_at_one() -> None:
    finding = telling.letters(GROUP)
    content = telling.content(Decision(Reason.FIRST, "dead_letters", "f", finding, None))
    assert content == {
        "title": "3 jobs of send (ValueError) went dead on mail",
        "lines": [
            ["what", "send (ValueError)"],
            ["where", "mail"],
            ["new", "3 jobs"],
            ["there now", "5 jobs"],
            ["oldest", "2026-01-02 03:04 UTC"],
            ["for example job", "id-1"],
        ],
        "command": "holdfast jobs show id-1",
    }


def test_a_resolved_notice_says_how_long_it_lasted_and_how_many_there_were() -> None:
    content = telling.content(Decision(Reason.RESOLVED, "dead_letters", "f", None, INCIDENT))
    assert content == {
        "title": "Resolved: 3 jobs of send died",
        "lines": [["open for", "1.5 h"], ["in all", "3"]],
        "command": None,
    }


def test_a_state_arrives_once() -> None:
    blind = telling.blind("orders", "SQS does not answer")
    assert telling.once(blind, set()).arrived == 1
    assert telling.once(blind, {("blind", "orders")}).arrived == 0
    letters = telling.letters(GROUP)
    assert telling.once(letters, {("dead_letters", "f")}).arrived == 3
