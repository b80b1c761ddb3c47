"""Do all services run with the settings that the files say now, and with this version?"""

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.presence import list_services
from holdfast.services.checks.deployment import Deployment
from holdfast.services.restarts import called, find_old, is_here, why_old

_ID, _COMPONENT = "settings.in_force", "settings"
_CODE = ".env and holdfast.toml, read at start"


async def check_restarts(deployment: Deployment) -> Finding:
    """Compare each service with what is here now. Those of other folders and hosts have files of their own."""
    here = deployment.here
    services = await deployment.ledger.call(list_services())
    if not services:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, "no service has announced itself within the last minute", _CODE)
    old = find_old(services, here)
    if old:
        fix = "restart " + ", ".join(called(service) for service in services if why_old(service, here))
        return Finding(_ID, _COMPONENT, Verdict.FAIL, "; ".join(old), _CODE, fix)
    compared = [service for service in services if is_here(service, here)]
    elsewhere = len(services) - len(compared)
    rest = f"; {elsewhere} elsewhere cannot be compared" if elsewhere else ""
    if not compared:
        return Finding(_ID, _COMPONENT, Verdict.SKIP, f"no service was started from {here.folder}{rest}", _CODE)
    found = f"in force in {', '.join(called(service) for service in compared)}{rest}"
    return Finding(_ID, _COMPONENT, Verdict.PASS, found, _CODE)
