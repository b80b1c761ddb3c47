"""From `Holdfast.periodic` to a schedule: what is declared is checked here and now, not at the first tick."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from holdfast.core.declaration import storable_name
from holdfast.core.schedule import Schedule, zone
from holdfast.errors import ConfigurationError, InvalidArguments
from holdfast.handles import JobKind
from holdfast.postgres.calls import NewJob
from holdfast.services.periodic import Periodic

#: Any moment does to see whether an expression has ticks and the arguments fit.
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def make_periodic(
    kind: JobKind[..., Any],
    *,
    cron: str,
    tz: str,
    name: str | None,
    overlap: bool,
    tick_as: str | None,
    arguments: Mapping[str, Any],
) -> Periodic:
    """Raises `ConfigurationError` with the value and the way out."""
    name = storable_name("schedule", name or kind.name)
    time_zone = zone(tz)

    def prepare(tick: datetime) -> NewJob:
        given = {} if tick_as is None else {tick_as: tick.astimezone(time_zone)}
        return kind.prepare(**arguments, **given)

    try:
        stored = json.loads(prepare(_SOME_DAY).args)
    except InvalidArguments as error:
        raise ConfigurationError(f"schedule {name!r}: {error}; give the handler's arguments to periodic()") from error
    if tick_as is not None:
        del stored[tick_as]
    schedule = Schedule(name, cron, tz, kind.kind.queue, kind.name, stored, overlap)
    schedule.next_after(_SOME_DAY)
    return Periodic(schedule, prepare)
