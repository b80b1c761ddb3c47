"""Incidents: what is found is folded by its cause, and it is decided whether anybody must be told, and why.

An incident opens at the first finding of its cause, grows worse with what arrives later, and is resolved when nothing
of it is left. Each of the three is told once; a finding that is only still there is not told again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why somebody is told of an incident; NOTHING is why not."""

    FIRST = "first"
    WORSE = "worse"
    RESOLVED = "resolved"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Finding:
    """What a monitor found of one cause. `arrived`: new since somebody was told; `present`: how much there is now."""

    kind: str
    key: str
    title: str
    arrived: int
    present: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenIncident:
    """An incident that is open. `open_for` in seconds."""

    kind: str
    key: str
    title: str
    arrivals: int
    open_for: float


@dataclass(frozen=True)
class Decision:
    """What becomes of one cause, and why."""

    reason: Reason
    kind: str
    key: str
    finding: Finding | None
    incident: OpenIncident | None


def decide(findings: Sequence[Finding], incidents: Sequence[OpenIncident]) -> list[Decision]:
    """A decision for each cause that was found or is open. `incidents` are those that these findings could be about.

    >>> [each.reason.value for each in decide([Finding("blind", "q", "cannot look", 1, 1)], [])]
    ['first']
    """
    open_ones = {(incident.kind, incident.key): incident for incident in incidents}
    found = {(finding.kind, finding.key): finding for finding in findings}
    return [
        Decision(_reason(found.get(cause), open_ones.get(cause)), *cause, found.get(cause), open_ones.get(cause))
        for cause in dict.fromkeys([*found, *open_ones])
    ]


def within(incidents: Sequence[OpenIncident], looked: Mapping[str, Collection[str]]) -> list[OpenIncident]:
    """Those that whoever looked can judge: of a kind in `looked` only the keys that are named there.

    What nobody looked at is neither found nor over: it may be another monitor's, or out of reach.

    >>> incident = OpenIncident("blind", "orders-dlq", "cannot be looked at", 1, 60.0)
    >>> within([incident], {"blind": {"bills-dlq"}})
    []
    """
    return [each for each in incidents if each.kind not in looked or each.key in looked[each.kind]]


def _reason(finding: Finding | None, incident: OpenIncident | None) -> Reason:
    if finding is None or (finding.present == 0 and finding.arrived == 0):
        return Reason.NOTHING if incident is None else Reason.RESOLVED
    if incident is None:
        return Reason.FIRST if finding.arrived else Reason.NOTHING
    return Reason.WORSE if finding.arrived else Reason.NOTHING
