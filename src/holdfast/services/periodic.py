"""A periodic job as a program declares it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from holdfast.core.schedule import Schedule
from holdfast.postgres.calls import NewJob


@dataclass(frozen=True)
class Periodic:
    """A schedule, and how the job of a tick comes about."""

    schedule: Schedule
    prepare: Callable[[datetime], NewJob]
