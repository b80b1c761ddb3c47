"""The monitors' process, as a supervisor starts it: `python -m holdfast.cli.monitor_child`. Not for people."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import SecretStr

from holdfast.app import new_id
from holdfast.cli.child import VARIABLE, Progress, Telling
from holdfast.cli.options import dlq_sources, sqs_queues
from holdfast.config import Settings
from holdfast.core.bell import BellRoutes
from holdfast.core.incident import Pace
from holdfast.events import Sinks
from holdfast.instrument.counting import CountingSink
from holdfast.instrument.logs import LogSink, quieten
from holdfast.notify.several import from_json, make_channels
from holdfast.services.monitors import Monitors, MonitorSettings


@dataclass(frozen=True)
class MonitorPlan:
    """What the monitors' process is told by its supervisor. Secrets travel in the environment, never in arguments."""

    link: int
    dsn: str
    settings: str
    addresses: dict[str, str | None]
    deadman: str | None
    stale: bool
    dlq: bool
    rings: bool


def command(plan: MonitorPlan) -> tuple[Sequence[str], Mapping[str, str]]:
    """The arguments and the environment that start this process."""
    return ("-m", "holdfast.cli.monitor_child"), {**os.environ, VARIABLE: json.dumps(asdict(plan))}


def monitor_settings(settings: Settings, *, stale: bool, dlq: bool, rings: bool) -> MonitorSettings:
    """The part of the settings that the monitors need."""
    return MonitorSettings(
        stale=stale,
        dlq=dlq,
        bells=settings.bell_routes() if rings else BellRoutes(),
        queues=sqs_queues(settings),
        sources=dlq_sources(settings),
        dlq_interval=settings.dlq_interval,
        sweep_interval=settings.sweep_interval,
        stale_after=settings.stale_after,
        limits=settings.health_limits(),
        pace=Pace(repeat_interval=settings.repeat_interval),
        keep_dead=settings.keep_dead,
        run_dir=settings.run_dir,
        watches=settings.watch if rings else (),
    )


async def _run(plan: MonitorPlan, settings: Settings) -> None:
    link = socket.socket(fileno=plan.link)
    link.setblocking(False)
    counting = CountingSink()
    telling = asyncio.create_task(Telling(link, counting.counts).run())
    monitors = Monitors(
        plan.dsn,
        replace(
            monitor_settings(settings, stale=plan.stale, dlq=plan.dlq, rings=plan.rings),
            deadman=None if plan.deadman is None else SecretStr(plan.deadman),
        ),
        make_channels(from_json(plan.addresses)),
        Sinks([LogSink(), counting]),
        new_id=new_id,
        turned=Progress(link).made,
    )
    running = asyncio.ensure_future(monitors.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    loop.add_reader(link, _supervisor_died, link, running)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    telling.cancel()


def _supervisor_died(link: socket.socket, running: "asyncio.Future[None]") -> None:
    """The supervisor never writes: to read anything is to read its end."""
    asyncio.get_running_loop().remove_reader(link)
    running.cancel()


def main() -> int:
    plan = MonitorPlan(**json.loads(os.environ.pop(VARIABLE)))
    settings = Settings.model_validate_json(plan.settings)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )
    quieten()
    asyncio.run(_run(plan, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
