"""Statements about who is here: the services that run, and with which settings they were started."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs. `settings_hash` stands for what the settings files in `folder` said at its start."""

    id: UUID
    name: str
    host: str
    pid: int
    version: str
    folder: str
    settings_hash: str
    address: str | None
    bell_url: str | None
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a service says of itself."""

    id: UUID
    name: str
    host: str
    pid: int
    version: str
    folder: str
    settings_hash: str
    address: str | None = None
    bell_url: str | None = None


def announce_service(service: Introduction) -> Call[Any]:
    """Tells that a service is here; again each few seconds."""
    parameters = {name: getattr(service, name) for name in Introduction.__dataclass_fields__}
    return Call("announce_service", statement("announce_service"), parameters, lambda found: found)


def withdraw_service(id: UUID) -> Call[Any]:
    """Takes a service off the list."""
    return Call("withdraw_service", statement("withdraw_service"), {"id": id}, lambda found: found)


def list_services() -> Call[Service]:
    """The services seen within the last minute."""
    return Call("list_services", statement("list_services"), {}, Service)
