"""What people are told of dead letters: titles and lines, from names and counts only.

Nothing of a message's body and no text of an error is in them, since both may quote what is secret: an alert leaves the
house.
"""

from collections.abc import Sequence
from typing import Any

from holdfast.core.health import Check
from holdfast.core.incident import Decision, Finding, Reason
from holdfast.core.letters import LetterGroup

LETTERS, BLIND, COUNTED, FAILING = "dead_letters", "blind", "dead_letters_counted", "failing_check"
ALONE, FOREIGN = "limits_without_postgres", "foreign_message"
#: All that an incident can be of.
KINDS = (LETTERS, BLIND, COUNTED, FAILING, ALONE, FOREIGN)


def letters(group: LetterGroup) -> Finding:
    """Dead letters of one cause."""
    what = group.kind or "an unknown kind"
    cause = f" ({group.cause})" if group.cause else ""
    place = group.queue or "a queue"
    noun, where = ("job", f"went dead on {place}") if group.source == "job" else ("message", f"in {place}")
    lines = [["what", f"{what}{cause}"], ["where", place], ["new", many(group.untold, noun)]]
    if group.present:
        lines.append(["there now", many(group.present, noun)])
    if group.oldest_at is not None:
        lines.append(["oldest", group.oldest_at.strftime("%Y-%m-%d %H:%M UTC")])
    if group.sample_job_id:
        lines.append(["for example job", group.sample_job_id])
    command = f"holdfast jobs show {group.sample_job_id}" if group.source == "job" else None
    title = f"{many(group.untold or group.present, noun)} of {what}{cause} {where}"
    return Finding(LETTERS, group.fingerprint, title, group.untold, group.present, {"lines": lines, "command": command})


def counted(queue: str, count: int, why: str) -> Finding:
    """A dead-letter queue whose messages were counted only."""
    lines = [["where", queue], ["there now", many(count, "message")], ["only counted", why]]
    return Finding(COUNTED, queue, f"{many(count, 'message')} in {queue}", 1, count, {"lines": lines})


def blind(queue: str, why: str) -> Finding:
    """A queue that could not be looked at."""
    lines = [["where", queue], ["why", why], ["means", "whether dead letters arrive there is not known"]]
    return Finding(BLIND, queue, f"The dead letters of {queue} cannot be looked at", 1, 1, {"lines": lines})


def failing(check: Check) -> Finding:
    """A health check that fails."""
    lines = [["check", check.name], ["says", check.output]]
    details = {"lines": lines, "command": "holdfast doctor"}
    return Finding(FAILING, check.name, f"{check.name.replace('_', ' ')}: {check.output}"[:300], 1, 1, details)


def alone(decisions: int) -> Finding:
    """Rate limits that were decided without Postgres: `decisions` since they were told of last, 0 for no more."""
    lines = [
        ["decided in memory", f"{decisions:,} requests"],
        ["means", "each process kept its share of the limits while the ledger did not answer it in time"],
    ]
    details = {"lines": lines, "command": "holdfast limits list"}
    title = f"Rate limits were kept without Postgres: {decisions:,} decisions"
    return Finding(ALONE, "", title, decisions, 1, details)


def foreign(queue: str) -> Finding:
    """A queue for bells in which somebody else's message was met."""
    lines = [
        ["where", queue],
        ["means", "its workers take no more bells from it and nobody rings it; jobs run all the same, by polling"],
        ["way out", "give bells a queue of their own (HOLDFAST_SQS_QUEUE_URL), or empty this one; restart the workers"],
    ]
    return Finding(FOREIGN, queue, f"Somebody else's message is in {queue}, a queue for bells", 1, 1, {"lines": lines})


def still(name: str) -> Finding:
    """A check of which nothing new is to be told."""
    return Finding(FAILING, name, name, 0, 1)


def once(finding: Finding, known: set[tuple[str, str]]) -> Finding:
    """What is a state, and not made of letters, arrives once: when its incident opens."""
    if finding.kind == LETTERS or (finding.kind, finding.key) not in known:
        return finding
    return Finding(finding.kind, finding.key, finding.title, 0, finding.present, finding.details)


def title(decision: Decision) -> str:
    """What an incident is called from now on."""
    if decision.finding is not None and decision.reason is not Reason.RESOLVED:
        return decision.finding.title
    return decision.incident.title if decision.incident else decision.key


def content(decision: Decision) -> dict[str, Any]:
    """What is told: {title, lines, command}."""
    details = decision.finding.details if decision.finding else {}
    lines: list[Sequence[str]] = []
    if decision.reason is Reason.RESOLVED:
        told = f"Resolved: {title(decision)}"
    else:
        told = title(decision)
        lines += details.get("lines", [])
    if decision.incident is not None:
        lines.append(["open for", span(decision.incident.open_for)])
    if decision.incident is not None and decision.incident.arrivals and decision.reason is Reason.RESOLVED:
        lines.append(["in all", f"{decision.incident.arrivals}"])
    command = None if decision.reason is Reason.RESOLVED else details.get("command")
    return {"title": told, "lines": lines, "command": command}


def many(count: int, noun: str) -> str:
    """A count that goes to 1,000, with its noun.

    >>> many(1, "job"), many(1000, "job")
    ('1 job', '1,000 or more jobs')
    """
    return f"{count if count < 1000 else '1,000 or more'} {noun}{'s' * (count != 1)}"


def span(seconds: float) -> str:
    """A duration for people.

    >>> span(5400)
    '1.5 h'
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
