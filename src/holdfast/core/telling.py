"""What people are told of dead letters: titles and lines, from names and counts only.

Nothing of a message's body and no text of an error is in them, since both may quote what is secret: an alert leaves the
house.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from holdfast.core.health import Check, Status
from holdfast.core.incident import Action, Decision, Finding, OpenIncident, Reason
from holdfast.core.letters import LetterGroup

LETTERS, BLIND, COUNTED, FAILING = "dead_letters", "blind", "dead_letters_counted", "failing_check"
ALONE, FOREIGN, EXPIRING = "limits_without_postgres", "foreign_message", "letters_expiring"
BROKEN, GONE = "notification_failing", "ledger_gone"
RESCUED, BRAKE, LOCKED, TRANSACTION = "jobs_rescued", "brake_held", "row_locked", "open_transaction"
UNHEARD, NOT_DRAINING = "ringer_behind", "queue_not_draining"
PRUNED = "dead_jobs_expiring"
#: Kinds whose arrivals are counted; all others are states, which arrive once.
COUNTING = (LETTERS, RESCUED)


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
    title = f"{many(max(group.present, group.untold), noun)} of {what}{cause} {where}"
    details = {"lines": lines, "command": _commands(group), "group": group}
    return Finding(LETTERS, group.fingerprint, title, group.untold, group.present, details)


def _commands(group: LetterGroup) -> str:
    """What to type to look, and to send them again: nothing is sent before it was looked at."""
    look = [
        f"holdfast dlq list --group {group.fingerprint}",
        f"holdfast dlq redrive --group {group.fingerprint} --dry-run",
    ]
    return "\n".join([f"holdfast jobs show {group.sample_job_id}", *look] if group.source == "job" else look)


#: Hours before the loss of a message, and how urgent that is then.
LOSS = ((4.0, 2), (24.0, 1))


def expiring(queue: str, seconds: float, only_counted: str | None = None) -> Finding | None:
    """A queue whose oldest message SQS will delete in so many seconds, read or not; None where there is time.

    `only_counted`: why its messages are not looked at. The time is the longest possible one then.

    >>> expiring("orders-dlq", 3 * 3600).level
    2
    """
    level = next((level for hours, level in LOSS if seconds <= hours * 3600), None)
    if level is None:
        return None
    when = f"in {span(seconds)}" if seconds > 0 else "about now"
    if only_counted is not None:
        return _counted_expiring(queue, seconds, f"{when}, or sooner", only_counted, level)
    lines = [
        ["where", queue],
        ["time to loss", span(max(seconds, 0.0))],
        ["means", "SQS deletes a message when its retention ends, counted from when it was first sent"],
        ["way out", "HOLDFAST_DLQ_CAPTURE keeps messages of this queue in the ledger; or redrive them"],
    ]
    details = {"lines": lines, "command": f"holdfast dlq redrive --queue {queue} --dry-run"}
    return Finding(EXPIRING, queue, f"The oldest message of {queue} is lost {when}", 1, 1, details, level)


def _counted_expiring(queue: str, seconds: float, when: str, why: str, level: int) -> Finding:
    lines = [
        ["where", queue],
        ["time to loss", f"{span(max(seconds, 0.0))} at most"],
        ["only counted", why],
        [
            "means",
            "messages have been there since they were first counted, and SQS deletes them at their retention's end",
        ],
        [
            "way out",
            "move them to a queue that is read, or HOLDFAST_DLQ_CAPTURE where it has no redrive policy of its own",
        ],
    ]
    details = {"lines": lines, "command": f"holdfast dlq move {queue} --dry-run"}
    return Finding(EXPIRING, queue, f"The oldest message of {queue} is lost {when}", 1, 1, details, level)


#: Seconds before dead jobs are removed that people are told of it: a tenth of the time they are kept, 7 days at most.
NOTICE = 7 * 86400.0


def notice(keep: float) -> float:
    """How long before their end people are told of dead jobs that are kept for so long.

    >>> notice(90 * 86400) / 86400, notice(86400) / 3600
    (7.0, 2.4)
    """
    return min(keep / 10, NOTICE)


def pruned(jobs: int, first_at: datetime, keep: float) -> Finding:
    """Dead jobs that retention removes soon, and nobody has decided about."""
    lines = [
        ["how many", many(jobs, "dead job")],
        ["the first at", first_at.strftime("%Y-%m-%d %H:%M UTC")],
        ["means", f"dead jobs are kept for {span(keep)}; after that they cannot be redriven any more"],
        ["way out", "redrive or discard them, or keep them longer: HOLDFAST_KEEP_DEAD"],
    ]
    look = f"holdfast dlq list --source job --older {(keep - notice(keep)) / 86400:g}d"
    title = f"{many(jobs, 'dead job')} will be removed within {span(notice(keep))}"
    return Finding(PRUNED, "", title, 1, jobs, {"lines": lines, "command": look})


def counted(queue: str, count: int, why: str) -> Finding:
    """A dead-letter queue whose messages were counted only."""
    lines = [["where", queue], ["there now", many(count, "message")], ["only counted", why]]
    return Finding(COUNTED, queue, f"{many(count, 'message')} in {queue}", 1, count, {"lines": lines})


def blind(queue: str, why: str, since: datetime | None = None) -> Finding:
    """A queue that could not be looked at, since when."""
    lines = [["where", queue], ["why", why], ["means", "whether dead letters arrive there is not known"]]
    if since is not None:
        lines.append(["blind since", since.strftime("%Y-%m-%d %H:%M UTC")])
    return Finding(BLIND, queue, f"The dead letters of {queue} cannot be looked at", 1, 1, {"lines": lines})


def broken(channel: str, why: str) -> Finding:
    """A channel that refuses what it is sent, and will until somebody mends it."""
    lines = [["channel", channel], ["why", why], ["means", "what is to be told there waits, and is tried again"]]
    details = {"lines": lines, "command": "holdfast alerts test"}
    return Finding(BROKEN, channel, f"Nobody is told over {channel}: {why}", 1, 1, details)


def ledger_gone(seconds: float) -> Finding:
    """The ledger has not answered for so long."""
    lines = [
        ["silent for", span(seconds)],
        ["means", "no job is accepted, claimed or rescued, and nobody knows what else is wrong"],
    ]
    details = {"lines": lines, "command": "holdfast doctor"}
    return Finding(GONE, "", f"The ledger's Postgres has not answered for {span(seconds)}", 1, 1, details)


def ledger_back(seconds: float) -> Finding:
    """It answers again, after so long."""
    title = f"Resolved: the ledger's Postgres answers again, after {span(seconds)}"
    return Finding(GONE, "", title, 0, 0, {"lines": [["lasted", span(seconds)]]})


def rescued(news: int) -> Finding:
    """Jobs that were taken back from workers that were gone, silent or too slow; `news` since the last look."""
    lines = [["taken back", many(news, "job")], ["means", "their workers died, fell silent, or passed a deadline"]]
    details = {"lines": lines, "command": "holdfast workers list"}
    return Finding(RESCUED, "", f"Stuck jobs were taken back: {many(news, 'job')}", news, 1, details)


def brake(cause: str, workers: int) -> Finding:
    """The brake holds: too many workers fell silent at once to be believed dead."""
    lines = [["cause", cause], ["workers", f"{workers:,}"], ["means", "their jobs wait some seconds before a rescue"]]
    details = {"lines": lines, "command": "holdfast workers list"}
    return Finding(BRAKE, cause, f"The brake holds {many(workers, 'worker')} back from a rescue", 1, 1, details)


def locked(job: str, pid: int | None, application: str | None, state: str | None) -> Finding:
    """A job is due for rescue, and somebody holds its row."""
    who = f"pid {pid} ({application or 'no name'}, {state})" if pid is not None else "several sessions"
    lines = [["job", job], ["held by", who], ["way out", f"SELECT pg_terminate_backend({pid or 'PID'})"]]
    details = {"lines": lines, "command": f"holdfast jobs show {job}"}
    return Finding(LOCKED, job, f"A job that is due for rescue is held by {who}", 1, 1, details)


def transaction(pid: int, application: str, state: str, age: float) -> Finding:
    """A transaction that is open for so long that dead rows cannot go."""
    lines = [
        ["pid", f"{pid}"],
        ["application", application or "no name"],
        ["state", state],
        ["open for", span(age)],
        ["means", "no row that died since can be removed: every queue of this Postgres becomes slow"],
        ["way out", f"SELECT pg_terminate_backend({pid})"],
    ]
    title = f"A transaction has been open for {span(age)}: pid {pid}"
    return Finding(TRANSACTION, f"{pid}", title, 1, 1, {"lines": lines, "command": "holdfast doctor"})


def slow(kind: str, check: Check) -> Finding:
    """A health check that warns and goes on warning."""
    lines = [["check", check.name], ["says", check.output]]
    details = {"lines": lines, "command": "holdfast queues list"}
    return Finding(kind, "", f"{check.name}: {check.output}"[:300], 1, 1, details)


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
    if finding.kind in COUNTING or (finding.kind, finding.key) not in known:
        return finding
    return replace(finding, arrived=0)


def so_far(finding: Finding, known: Mapping[tuple[str, str], OpenIncident]) -> Finding:
    """With what arrived before, and was not told of yet."""
    incident = known.get((finding.kind, finding.key))
    group = finding.details.get("group")
    if incident is None or not isinstance(group, LetterGroup):
        return replace(finding, details=_plain(finding.details))
    told = letters(replace(group, untold=group.untold + incident.untold))
    return replace(told, arrived=finding.arrived, details=_plain(told.details))


def _plain(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if name != "group"}


def title(decision: Decision) -> str:
    """What an incident is called from now on: by what is told, or was told last."""
    finding, incident = decision.finding, decision.incident
    is_told_anew = decision.action not in (Action.RESOLVE, Action.CLEAN, Action.SEEN, Action.REPEAT)
    if finding is not None and (is_told_anew or incident is None):
        return finding.title
    return incident.title if incident else decision.key


_BEFORE = {Reason.RESOLVED: "Resolved: ", Reason.REPEAT: "Still there: "}


def content(decision: Decision) -> dict[str, Any]:
    """What is told: {title, lines, command, place}, the last that of the runbook which tells what to do."""
    incident, is_over = decision.incident, decision.reason is Reason.RESOLVED
    details = {} if decision.finding is None or is_over else decision.finding.details
    lines: list[Sequence[str]] = list(details.get("lines", []))
    if decision.action is Action.REOPEN and incident is not None:
        lines.append(["came back", f"{incident.reopened + 1} times"])
    elif incident is not None:
        lines.append(["open for", span(incident.open_for)])
    if incident is not None and incident.arrivals and decision.reason in (Reason.WORSE, Reason.RESOLVED):
        lines.append(["in all", f"{incident.arrivals + (decision.finding.arrived if decision.finding else 0):,}"])
    told = f"{_BEFORE.get(decision.reason, '')}{title(decision)}"
    return {"title": told, "lines": lines, "command": details.get("command"), "place": place(decision)}


#: Kinds of incidents, each with a place of its name on docs/operations/runbook.md.
KINDS = (
    LETTERS, BLIND, COUNTED, FAILING, ALONE, FOREIGN, EXPIRING, BROKEN, GONE, RESCUED, BRAKE, LOCKED, TRANSACTION,
    UNHEARD, NOT_DRAINING, PRUNED,
)  # fmt: skip


def place(decision: Decision) -> str:
    """Where the runbook tells what to do: each kind has its place there, and each health check."""
    return decision.key if decision.kind == FAILING else decision.kind


#: What is sent of one incident.
Told = dict[str, Any]
#: Of which kinds there are samples, to try channels with.
SAMPLES = (
    LETTERS, EXPIRING, BLIND, COUNTED, FAILING, ALONE, BROKEN, GONE, RESCUED, BRAKE, LOCKED, TRANSACTION, UNHEARD,
    NOT_DRAINING, PRUNED,
)  # fmt: skip


def samples() -> dict[str, tuple[str, Told]]:
    """One of each kind and an end, by kind: (reason, content). Each says that it is a test."""
    group = LetterGroup("Sample:1-0123456789ab", "sample", "sqs", "sample", "Sample", 3, 3, None, None)
    expires = expiring("sample-dlq", 3 * 3600.0)
    findings = [
        letters(group),
        blind("sample-dlq", "SQS does not answer"),
        counted("sample-dlq", 3, "it is FIFO, and a look would block its groups"),
        failing(Check("sample", Status.FAIL, "a check failed twice in a row", {})),
        alone(3),
        broken("sample", "it refuses: 404"),
        ledger_gone(90.0),
        rescued(3),
        brake("mass lapse", 4),
        locked("sample", 7, "psql", "idle in transaction"),
        transaction(7, "psql", "idle in transaction", 900.0),
        slow(UNHEARD, Check("ringer", Status.WARN, "2 queues were rung, and nobody came", {})),
        slow(NOT_DRAINING, Check("queues", Status.WARN, "sample: a job has been due for 400 s", {})),
        pruned(3, datetime(2030, 1, 1, tzinfo=UTC), 90 * 86400.0),
        *([] if expires is None else [expires]),
    ]
    made = {finding.kind: ("first", _sample(finding, Reason.FIRST, Action.OPEN)) for finding in findings}
    return made | {"resolved": ("resolved", _sample(findings[0], Reason.RESOLVED, Action.RESOLVE))}


def _sample(finding: Finding, reason: Reason, action: Action) -> Told:
    incident = OpenIncident(finding.kind, finding.key, finding.title, 3, 3600.0) if reason is Reason.RESOLVED else None
    told = content(Decision(reason, finding.kind, finding.key, finding, incident, action))
    return {**told, "title": f"(Test) {told['title']}"}


#: Incidents that a digest names.
NAMED = 8


def digest(told: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Many incidents as one: (reason, content) of each. Those that begin come first.

    >>> digest([("first", {"title": "a"}), ("resolved", {"title": "Resolved: b"})])["title"]
    '2 incidents: 1 new, 1 over'
    """
    order = {"first": 0, "worse": 1, "repeat": 2, "resolved": 3}
    names = {"first": "new", "worse": "worse", "repeat": "still there", "resolved": "over"}
    ranked = sorted(told, key=lambda each: order.get(each[0], 9))
    counts = [(names[reason], sum(each == reason for each, _ in told)) for reason in names]
    parts = ", ".join(f"{count:,} {name}" for name, count in counts if count)
    lines = [[names.get(reason, reason), str(content.get("title", ""))] for reason, content in ranked[:NAMED]]
    if len(told) > NAMED:
        lines.append(["and", f"{len(told) - NAMED:,} more"])
    return {"title": f"{len(told):,} incidents: {parts}", "lines": lines, "command": "holdfast incidents list"}


def many(count: int, noun: str) -> str:
    """A count that goes to 10,000, with its noun.

    >>> many(1, "job"), many(10_000, "job")
    ('1 job', '10,000 or more jobs')
    """
    return f"{count:,}{' or more' * (count >= 10_000)} {noun}{'s' * (count != 1)}"


def span(seconds: float) -> str:
    """A duration for people.

    >>> span(5400)
    '1.5 h'
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
