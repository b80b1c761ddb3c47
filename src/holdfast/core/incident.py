"""Incidents: what is found is folded by its cause, and it is decided whether anybody must be told, and why.

An incident opens at the first finding of its cause, grows worse with what arrives later, is repeated while nobody takes
it on, and is resolved when nothing of it is left. What is told is told once, by whoever decides first:

    open ── worse ──> open ── repeat ──> open ── found nothing, `clean_looks` times ──> resolved
      │ acknowledged: told again only when it becomes more urgent, and at its end         │
      └ silenced: not told at all, until the silence ends     reopened <── came back ─────┘

One that came back soon after its end is the same incident again, and must stay over for longer each time before it is
taken for over: one that comes and goes is told less and less often.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Findings that are certain at one look: the ledger's own rows, and what a channel answered.
CERTAIN = frozenset({"dead_letters", "dead_jobs_expiring", "notification_failing"})


class Reason(StrEnum):
    """Why somebody is told of an incident; NOTHING is why not."""

    FIRST = "first"
    WORSE = "worse"
    REPEAT = "repeat"
    RESOLVED = "resolved"
    NOTHING = "nothing"


class Action(StrEnum):
    """What is written about it. CLEAN: a look found nothing of it; SEEN: it is there after all."""

    OPEN = "open"
    REOPEN = "reopen"
    WORSE = "worse"
    REPEAT = "repeat"
    CLEAN = "clean"
    SEEN = "seen"
    RESOLVE = "resolve"
    NONE = "none"


@dataclass(frozen=True)
class Pace:
    """How often people are told. Times in seconds.

    `group_wait`: how long a new incident waits for what arrives with it; `group_interval`: what arrives later is told
    of together, at most once in this time; `repeat_interval`: what is still there is told again after it, four times
    that after the next, and so on up to `longest_repeat`; `calm`: how long an incident that came back must stay over,
    four times that when it came back again, up to `longest_calm`.
    """

    group_wait: float = 2.0
    group_interval: float = 300.0
    repeat_interval: float = 3600.0
    longest_repeat: float = 86400.0
    clean_looks: int = 2
    calm: float = 60.0
    longest_calm: float = 3600.0


@dataclass(frozen=True)
class Finding:
    """What a monitor found of one cause. `arrived`: new since somebody was told; `present`: how much there is now.

    `level`: how urgent it is, from 0 on.
    """

    kind: str
    key: str
    title: str
    arrived: int
    present: int
    details: Mapping[str, Any] = field(default_factory=dict)
    level: int = 0


@dataclass(frozen=True)
class OpenIncident:
    """An incident that is open, or was not long ago (`status` resolved). Times in seconds, None for never."""

    kind: str
    key: str
    title: str
    arrivals: int
    open_for: float
    id: Any = None
    version: int | None = None
    status: str = "open"
    level: int = 0
    untold: int = 0
    told_ago: float | None = None
    repeats: int = 0
    clean: int = 0
    clean_for: float | None = None
    reopened: int = 0
    is_acknowledged: bool = False
    is_silenced: bool = False


@dataclass(frozen=True)
class Decision:
    """What becomes of one cause, whom it is told to (nobody, if the reason is NOTHING), and why, in words."""

    reason: Reason
    kind: str
    key: str
    finding: Finding | None
    incident: OpenIncident | None
    action: Action = Action.NONE
    why: str = ""


_PACE = Pace()


def decide(findings: Sequence[Finding], incidents: Sequence[OpenIncident], pace: Pace = _PACE) -> list[Decision]:
    """A decision for each cause that was found or is open. `incidents` are those that these findings could be about.

    >>> [each.reason.value for each in decide([Finding("blind", "q", "cannot look", 1, 1)], [])]
    ['first']
    """
    known = {(incident.kind, incident.key): incident for incident in incidents}
    found = {(finding.kind, finding.key): finding for finding in findings}
    decisions = []
    for cause in dict.fromkeys([*found, *known]):
        finding, incident = found.get(cause), known.get(cause)
        reason, action, why = _verdict(finding, incident, pace)
        decisions.append(Decision(reason, *cause, finding, incident, action, why))
    return decisions


def within(incidents: Sequence[OpenIncident], looked: Mapping[str, Collection[str]]) -> list[OpenIncident]:
    """Those that whoever looked can judge: of a kind in `looked` only the keys that are named there.

    What nobody looked at is neither found nor over: it may be another monitor's, or out of reach.

    >>> incident = OpenIncident("blind", "orders-dlq", "cannot be looked at", 1, 60.0)
    >>> within([incident], {"blind": {"bills-dlq"}})
    []
    """
    return [each for each in incidents if each.kind not in looked or each.key in looked[each.kind]]


def repeated_after(repeats: int, pace: Pace = _PACE) -> float:
    """Seconds after which an incident that is still there is told again.

    >>> [repeated_after(times) / 3600 for times in range(4)]
    [1.0, 4.0, 16.0, 24.0]
    """
    return float(min(pace.repeat_interval * 4 ** min(repeats, 20), max(pace.longest_repeat, pace.repeat_interval)))


def calm_for(reopened: int, pace: Pace = _PACE) -> float:
    """Seconds for which an incident must stay over before it is taken for over; it came back `reopened` times.

    >>> [calm_for(times) for times in range(5)]
    [0.0, 60.0, 240.0, 960.0, 3600.0]
    """
    return float(min(pace.calm * 4 ** min(reopened - 1, 20), pace.longest_calm)) if reopened else 0.0


_Verdict = tuple[Reason, Action, str]


def _verdict(finding: Finding | None, incident: OpenIncident | None, pace: Pace) -> _Verdict:
    there = finding if finding is not None and (finding.present or finding.arrived) else None
    if incident is None or incident.status == "resolved":
        return _begins(there, incident)
    return _ends(incident, pace) if there is None else _goes_on(there, incident, pace)


def _begins(finding: Finding | None, incident: OpenIncident | None) -> _Verdict:
    if finding is None or not finding.arrived:
        return Reason.NOTHING, Action.NONE, "nothing of it is new"
    if incident is None:
        return Reason.FIRST, Action.OPEN, "it is new"
    if incident.is_silenced:
        return Reason.NOTHING, Action.REOPEN, "it came back, and is silenced"
    return Reason.FIRST, Action.REOPEN, "it came back"


def _ends(incident: OpenIncident, pace: Pace) -> _Verdict:
    looks, calm = 1 if incident.kind in CERTAIN else pace.clean_looks, calm_for(incident.reopened, pace)
    if incident.clean + 1 < looks:
        return Reason.NOTHING, Action.CLEAN, f"{incident.clean + 1} of {looks} looks found nothing of it"
    if (incident.clean_for or 0.0) < calm:
        return Reason.NOTHING, Action.CLEAN, f"it came back before: it must stay over for {calm:g} s"
    if incident.is_silenced:
        return Reason.NOTHING, Action.RESOLVE, "it is over, and silenced"
    return Reason.RESOLVED, Action.RESOLVE, "nothing of it is left"


def _goes_on(finding: Finding, incident: OpenIncident, pace: Pace) -> _Verdict:
    told_ago = float("inf") if incident.told_ago is None else incident.told_ago
    grows = finding.arrived + incident.untold > 0
    quiet = Action.WORSE if finding.arrived else Action.SEEN if incident.clean else Action.NONE
    if incident.is_silenced:
        return Reason.NOTHING, quiet, "it is silenced"
    if finding.level > incident.level:
        return Reason.WORSE, Action.WORSE, "it is more urgent"
    if incident.is_acknowledged:
        return Reason.NOTHING, quiet, "somebody has acknowledged it"
    if grows and told_ago >= pace.group_interval:
        return Reason.WORSE, Action.WORSE, "more of it arrived"
    if grows:
        return Reason.NOTHING, quiet, f"more of it arrived; it was told of {told_ago:.0f} s ago"
    if told_ago >= repeated_after(incident.repeats, pace):
        return Reason.REPEAT, Action.REPEAT, f"it is still there, {told_ago:.0f} s after it was told of"
    return Reason.NOTHING, quiet, "it is still there"
