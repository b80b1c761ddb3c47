"""The incident book: what monitors find is folded, decided, and written down with what is to be told of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from holdfast.core import telling
from holdfast.core.incident import Decision, Finding, Reason, decide, within
from holdfast.events import IncidentChanged, Sinks
from holdfast.postgres.dead_letters import IncidentChange, open_incidents, record_incidents
from holdfast.postgres.ledger import AsyncLedger

_ACTIONS = {Reason.FIRST: "open", Reason.WORSE: "worse", Reason.RESOLVED: "resolve"}


class IncidentBook:
    """Writes for one monitor. `channels` are told, besides those that alerters have announced."""

    def __init__(
        self, ledger: AsyncLedger, channels: Sequence[str], sinks: Sinks, *, new_id: Callable[[], UUID]
    ) -> None:
        self._ledger = ledger
        self._channels = channels
        self._sinks = sinks
        self._new_id = new_id

    async def fold(
        self, findings: Sequence[Finding], kinds: Sequence[str], looked: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Everything that was found of these kinds: what is open and was not found is over.

        Of a kind in `looked` only the keys named there were looked at; others stay as they are.
        """
        incidents = await self._ledger.call(open_incidents(kinds))
        known = {(incident.kind, incident.key) for incident in incidents}
        decisions = decide([telling.once(finding, known) for finding in findings], within(incidents, looked or {}))
        changes = [self._change(decision) for decision in decisions if decision.reason is not Reason.NOTHING]
        if not changes:
            return
        titles = {(change.kind, change.key): change.title for change in changes}
        for written in await self._ledger.call(record_incidents(changes, self._channels)):
            title = titles[written.kind, written.key] or written.key
            self._sinks.emit(IncidentChanged(written.kind, written.action, title, written.arrivals))

    def _change(self, decision: Decision) -> IncidentChange:
        return IncidentChange(
            id=self._new_id(),
            action=_ACTIONS[decision.reason],
            kind=decision.kind,
            key=decision.key,
            title=telling.title(decision),
            details={},
            arrivals=decision.finding.arrived if decision.finding else 0,
            content=telling.content(decision),
        )
