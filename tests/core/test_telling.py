"""What people are told: names and counts, and nothing that a message or an error said."""

from dataclasses import replace
from datetime import UTC, datetime

from holdfast.core import telling
from holdfast.core.health import Check, Status
from holdfast.core.incident import Action, Decision, OpenIncident, Reason
from holdfast.core.letters import LetterGroup

GROUP = LetterGroup("f", "mail", "job", "send", "ValueError", 3, 5, datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "id-1")
INCIDENT = OpenIncident("dead_letters", "f", "3 jobs of send died", 3, 5400.0)


def test_dead_jobs_are_told_with_the_command_to_look_at_one() -> None:
    finding = telling.letters(GROUP)
    content = telling.content(Decision(Reason.FIRST, "dead_letters", "f", finding, None, Action.OPEN))
    assert content == {
        "title": "5 jobs of send (ValueError) went dead on mail",
        "lines": [
            ["what", "send (ValueError)"],
            ["where", "mail"],
            ["new", "3 jobs"],
            ["there now", "5 jobs"],
            ["oldest", "2026-01-02 03:04 UTC"],
            ["for example job", "id-1"],
        ],
        "command": "holdfast jobs show id-1\nholdfast dlq list --group f\nholdfast dlq redrive --group f --dry-run",
        "place": "dead_letters",
    }


def test_a_resolved_notice_says_how_long_it_lasted_and_how_many_there_were() -> None:
    content = telling.content(Decision(Reason.RESOLVED, "dead_letters", "f", None, INCIDENT, Action.RESOLVE))
    assert content == {
        "title": "Resolved: 3 jobs of send died",
        "lines": [["open for", "1.5 h"], ["in all", "3"]],
        "command": None,
        "place": "dead_letters",
    }


def test_a_failing_check_leads_to_its_own_place_on_the_runbook() -> None:
    finding = telling.failing(Check("database", Status.FAIL, "it does not answer"))
    assert telling.content(Decision(Reason.FIRST, finding.kind, finding.key, finding, None))["place"] == "database"


def test_a_state_arrives_once() -> None:
    blind = telling.blind("orders", "SQS does not answer")
    assert telling.once(blind, set()).arrived == 1
    assert telling.once(blind, {("blind", "orders")}).arrived == 0
    letters = telling.letters(GROUP)
    assert telling.once(letters, {("dead_letters", "f")}).arrived == 3


def test_what_was_counted_and_not_told_yet_is_told_with_what_arrives_later() -> None:
    known = {("dead_letters", "f"): replace(INCIDENT, untold=40)}
    finding = telling.so_far(telling.letters(GROUP), known)
    assert finding.title == "43 jobs of send (ValueError) went dead on mail"
    assert finding.arrived == 3, "the others are counted already"
    assert "group" not in finding.details, "what is written down is what is told"


def test_the_loss_of_a_message_is_told_a_day_and_four_hours_before() -> None:
    assert telling.expiring("orders-dlq", 25 * 3600) is None
    day, hours = telling.expiring("orders-dlq", 23 * 3600), telling.expiring("orders-dlq", 3 * 3600)
    assert day is not None
    assert hours is not None
    assert (day.level, day.title) == (1, "The oldest message of orders-dlq is lost in 23.0 h")
    assert (hours.level, hours.title) == (2, "The oldest message of orders-dlq is lost in 3.0 h")
