"""What may differ from job to job of one kind, and what of it the ledger can hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.core.job import DUE_YEARS, EARLIEST, LATEST
from holdfast.core.payload import is_storable
from holdfast.errors import InvalidArguments

MOST_DELAY = 10 * 366 * 86400.0


@dataclass(frozen=True)
class Options:
    """What may differ from job to job. Times in seconds."""

    queue: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    delay: float | None = None
    unique_key: str | None = None
    group_key: str | None = None
    limit_key: str | None = None
    id: UUID | None = None

    def __post_init__(self) -> None:
        _refuse_other_types(self)
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise InvalidArguments(f"run_at is {self.run_at!r}, which names no time zone; add one (datetime.UTC)")
        if self.run_at is not None and not EARLIEST <= self.run_at <= LATEST:
            raise InvalidArguments(f"run_at is {self.run_at!r}; {DUE_YEARS}")
        if self.run_at is not None and self.delay is not None:
            raise InvalidArguments("give run_at or delay, not both")
        if self.delay is not None and not 0 <= self.delay <= MOST_DELAY:
            raise InvalidArguments(f"delay is {self.delay!r}; it must be a number of seconds from 0 to ten years")
        if self.priority is not None and not -1000 <= self.priority <= 1000:
            raise InvalidArguments(f"priority is {self.priority}; it must be between -1000 (first) and 1000 (last)")
        for name in ("queue", "unique_key", "group_key", "limit_key"):
            value = getattr(self, name)
            if value is not None and not (1 <= len(value) <= 200 and is_storable(value)):
                raise InvalidArguments(
                    f"{name} is {value[:60]!r}; it must have 1 to 200 characters, no NUL and no lone surrogates"
                )


_WANTED: Mapping[str, tuple[tuple[type, ...], str]] = {
    "queue": ((str,), "text"),
    "priority": ((int,), "a whole number"),
    "run_at": ((datetime,), "a datetime"),
    "delay": ((int, float), "a number of seconds"),
    "unique_key": ((str,), "text"),
    "group_key": ((str,), "text"),
    "limit_key": ((str,), "text"),
    "id": ((UUID,), "a UUID"),
}


def _refuse_other_types(options: Options) -> None:
    for name, (types, what) in _WANTED.items():
        value = getattr(options, name)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            raise InvalidArguments(f"{name} is {value!r:.60}; it must be {what}")
