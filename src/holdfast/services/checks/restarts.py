"""Which services run with other settings than the files now say, or with another version: they must be restarted."""

from datetime import datetime

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.presence import Service, list_services
from holdfast.services.checks.deployment import Deployment, Here

_ID, _COMPONENT = "settings.in_force", "settings"
_CODE = ".env and holdfast.toml, read at start"


async def check_restarts(deployment: Deployment) -> Finding:
    """Compare each service with what is here now. Those of other folders and hosts have files of their own."""
    here = deployment.here
    services = await deployment.ledger.call(list_services())
    if not services:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, "no service has announced itself within the last minute", _CODE)
    old = [reason for service in services if (reason := why_old(service, here))]
    if old:
        fix = "restart " + ", ".join(old_names(services, here))
        return Finding(_ID, _COMPONENT, Verdict.FAIL, "; ".join(old), _CODE, fix)
    compared = [service for service in services if _is_here(service, here)]
    elsewhere = len(services) - len(compared)
    rest = f"; {elsewhere} elsewhere cannot be compared" if elsewhere else ""
    if not compared:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, f"no service was started from {here.folder}{rest}", _CODE)
    found = f"in force in {', '.join(_called(service) for service in compared)}{rest}"
    return Finding(_ID, _COMPONENT, Verdict.PASS, found, _CODE)


def why_old(service: Service, here: Here) -> str | None:
    """Why a service must be restarted; None where nothing is known against it."""
    if service.version != here.version:
        return f"{_called(service)} runs version {service.version}, this is {here.version}"
    if _is_here(service, here) and service.settings_hash != here.settings_hash:
        return f"{_called(service)} started {_time(service.started_at)}, before the settings{_written(here)}"
    return None


def old_names(services: list[Service], here: Here) -> list[str]:
    """What to restart."""
    return [_called(service) for service in services if why_old(service, here)]


def _is_here(service: Service, here: Here) -> bool:
    return (service.host, service.folder) == (here.host, here.folder)


def _called(service: Service) -> str:
    return f"{service.name} (pid {service.pid})"


def _written(here: Here) -> str:
    return f" of {_time(here.settings_written)}" if here.settings_written else " were taken away"


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
