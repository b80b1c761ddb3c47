"""The processes that services are made of, as a supervisor keeps them."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from holdfast.cli.child import ChildPlan, command
from holdfast.cli.options import told
from holdfast.config import Settings
from holdfast.services.supervisor import ChildSpec


def worker_specs(settings: Settings, app: str, dsn: str, supervisor_id: UUID) -> list[ChildSpec]:
    """One process to keep alive for each of `processes`, and the one that exists only while there are suspects."""

    def spec(name: str, *, quarantine: bool) -> ChildSpec:
        def start(worker_id: UUID, link: int) -> tuple[Sequence[str], Mapping[str, str]]:
            plan = ChildPlan(str(worker_id), str(supervisor_id), link, app, dsn, told(settings), quarantine=quarantine)
            return command(plan)

        return ChildSpec(name, start, on_demand=quarantine)

    workers = [spec(f"worker-{number + 1}", quarantine=False) for number in range(settings.processes)]
    return [*workers, spec("quarantine", quarantine=True)]


def api_spec(settings: Settings, app: str | None, dsn: str) -> ChildSpec:
    """The API's process; with an application it knows the kinds, and checks what is enqueued against them."""
    from holdfast.cli.api_child import ApiPlan
    from holdfast.cli.api_child import command as api_command

    plan = ApiPlan(
        0,
        dsn,
        app,
        told(settings),
        is_private=is_loopback(settings.host),
        channels=settings.alert_addresses().channels,
        jwt_secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
    )

    def start(_: UUID, link: int) -> tuple[Sequence[str], Mapping[str, str]]:
        return api_command(replace(plan, link=link))

    return ChildSpec("api", start, is_worker=False)


def monitor_spec(
    settings: Settings, dsn: str, *, stale: bool = False, dlq: bool = False, rings: bool = False
) -> ChildSpec:
    """The monitors' process: the sweeper of stuck jobs, dead letters with their alerts, the ringer, as asked for."""
    from holdfast.cli.monitor_child import MonitorPlan
    from holdfast.cli.monitor_child import command as monitor_command

    addresses = settings.alert_addresses().as_json()
    deadman = None if settings.deadman_url is None else settings.deadman_url.get_secret_value()
    plan = MonitorPlan(0, dsn, told(settings), addresses, deadman, stale=stale, dlq=dlq, rings=rings)

    def start(_: UUID, link: int) -> tuple[Sequence[str], Mapping[str, str]]:
        return monitor_command(replace(plan, link=link))

    return ChildSpec("monitors", start, is_worker=False)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
