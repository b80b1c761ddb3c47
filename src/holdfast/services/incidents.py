"""The incident book: what monitors find is folded, decided, and written down with what is to be told of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from holdfast.core import telling
from holdfast.core.incident import Action, Decision, Finding, Pace, Reason, decide, within
from holdfast.events import IncidentChanged, Sinks
from holdfast.postgres.dead_letters import IncidentChange, open_incidents, record_incidents
from holdfast.postgres.ledger import AsyncLedger

#: Changes that are written in one transaction.
BATCH = 200


class IncidentBook:
    """Writes for one monitor. `channels` are told, besides those that alerters have announced."""

    def __init__(
        self,
        ledger: AsyncLedger,
        channels: Sequence[str],
        sinks: Sinks,
        *,
        new_id: Callable[[], UUID],
        pace: Pace | None = None,
    ) -> None:
        self._ledger = ledger
        self._channels = channels
        self._sinks = sinks
        self._new_id = new_id
        self._pace = pace or Pace()

    async def fold(
        self, findings: Sequence[Finding], kinds: Sequence[str], looked: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Everything that was found of these kinds: what is open and was not found is over.

        Of a kind in `looked` only the keys named there were looked at; others stay as they are.
        """
        incidents = await self._ledger.call(open_incidents(kinds))
        known = {(each.kind, each.key): each for each in incidents if each.status == "open"}
        named = [telling.so_far(telling.once(finding, set(known)), known) for finding in findings]
        decisions = decide(named, within(incidents, looked or {}), self._pace)
        changes = [self._change(decision) for decision in decisions if decision.action is not Action.NONE]
        for start in range(0, len(changes), BATCH):
            await self._write(changes[start : start + BATCH])

    async def _write(self, changes: Sequence[IncidentChange]) -> None:
        titles = {(change.kind, change.key): change.title for change in changes}
        for written in await self._ledger.call(record_incidents(changes, self._channels)):
            title = titles[written.kind, written.key] or written.key
            if written.action not in (Action.CLEAN, Action.SEEN):
                self._sinks.emit(IncidentChanged(written.kind, written.action, title, written.arrivals))

    def _change(self, decision: Decision) -> IncidentChange:
        incident, finding = decision.incident, decision.finding
        is_over = incident is None or incident.status == "resolved"
        return IncidentChange(
            id=incident.id if incident is not None and incident.id is not None else self._new_id(),
            action=decision.action,
            kind=decision.kind,
            key=decision.key,
            title=telling.title(decision),
            details={} if finding is None else dict(finding.details),
            arrivals=finding.arrived if finding else 0,
            content=telling.content(decision),
            version=None if incident is None else incident.version,
            tell=decision.reason is not Reason.NOTHING,
            level=finding.level if finding else 0,
            wait=f"{self._pace.group_wait} seconds" if is_over else None,
        )
