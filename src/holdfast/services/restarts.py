"""Which services must be restarted: those with other settings than the files say now, or of another version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from holdfast.postgres.presence import Service


@dataclass(frozen=True)
class Here:
    """This command's own place: services started from the same folder can be compared with it.

    `settings_hash` stands for what the settings files say now; `settings_written` is when they were written.
    """

    host: str
    folder: str
    version: str
    settings_hash: str
    settings_written: datetime | None


def why_old(service: Service, here: Here) -> str | None:
    """Why a service must be restarted; None where nothing is known against it."""
    if service.version != here.version:
        return f"{called(service)} runs version {service.version}, this is {here.version}"
    if is_here(service, here) and service.settings_hash != here.settings_hash:
        return f"{called(service)} started {_time(service.started_at)}, {_since(service, here)}"
    return None


def find_old(services: Sequence[Service], here: Here) -> list[str]:
    """The reasons of all that must be restarted."""
    return [reason for service in services if (reason := why_old(service, here))]


def is_here(service: Service, here: Here) -> bool:
    """Whether it was started from this folder: only then its settings can be compared."""
    return (service.host, service.folder) == (here.host, here.folder)


def called(service: Service) -> str:
    """How people find it."""
    return f"{service.name} (pid {service.pid})"


def _since(service: Service, here: Here) -> str:
    if here.settings_written is None:
        return "before the settings were taken away"
    if here.settings_written < service.started_at:
        return "with other settings than there are now"  # a file was taken away, or an older one put in its place
    return f"before the settings of {_time(here.settings_written)}"


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
