"""The API's process, as `holdfast up` starts it: `python -m holdfast.cli.api_child`. Not for people."""

import asyncio
import gc
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import uvicorn

from holdfast.cli.child import VARIABLE, Progress
from holdfast.cli.loading import load_app
from holdfast.cli.options import sqs_queues
from holdfast.config import Settings
from holdfast.core.ratelimit import Policy
from holdfast.errors import AppLoadError, ConfigurationError
from holdfast.instrument.logs import quieten
from holdfast.postgres.migrate import load
from holdfast.services.issuer import IssuerSettings
from holdfast.web.app import create_app
from holdfast.web.connections import BACKLOG, connection_class
from holdfast.web.identity import proxy_hint
from holdfast.web.server import Server, bind
from holdfast.web.services import ApiServices, ApiSettings

#: Seconds that open requests get when the process is told to end.
LAST_REQUESTS = 3


@dataclass(frozen=True)
class ApiPlan:
    """What the API's process is told by its supervisor. The settings travel in the environment, never in arguments."""

    link: int
    dsn: str
    app: str | None
    settings: str
    is_private: bool
    channels: list[str]
    jwt_secret: str | None = None


def command(plan: ApiPlan) -> tuple[Sequence[str], Mapping[str, str]]:
    """The arguments and the environment that start this process."""
    return ("-m", "holdfast.cli.api_child"), {**os.environ, VARIABLE: json.dumps(asdict(plan))}


async def _serve(plan: ApiPlan) -> None:
    settings = Settings.model_validate_json(plan.settings)
    api = ApiSettings(
        plan.dsn,
        schema_version=load()[-1].version,
        is_private=plan.is_private,
        timeout=settings.api_timeout,
        stale_after=settings.stale_after,
        rate_limit=Policy.parse(settings.rate_limit, name="default"),
        rate_limit_headers=settings.rate_limit_headers,
        trusted_proxies=[ipaddress.ip_network(each) for each in settings.trusted_proxies],
        kinds=load_app(plan.app).kinds if plan.app else {},
        bells=settings.bell_routes(),
        sqs_queues=sqs_queues(settings),
        channels=plan.channels,
        limits=settings.health_limits(),
        read_only=settings.read_only,
        redact=settings.redact,
        issuer=IssuerSettings(settings.jwt_issuer, plan.jwt_secret, settings.jwt_audience, settings.jwt_claim),
    )
    services = ApiServices(api)
    server = Server(
        uvicorn.Config(
            create_app(services),
            http=connection_class(),
            ws="none",
            # Whom to believe about a caller's address is a setting of ours (trusted_proxies).
            proxy_headers=False,
            log_config=None,
            # Its warnings are about what strangers send, each a line: they are not to write our log.
            log_level="error",
            backlog=BACKLOG,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LAST_REQUESTS,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _drain, services, server, settings.shutdown_delay)
    link = socket.socket(fileno=plan.link)
    link.setblocking(False)
    loop.add_reader(link, _supervisor_died, link, server)
    telling = asyncio.create_task(_tell_progress(link))
    # What was made until now stays: looking through it again and again would hold up answers for tens of milliseconds.
    gc.collect()
    gc.freeze()
    try:
        await server.serve(sockets=[bind(settings.host, settings.port)])
    finally:
        telling.cancel()


async def _tell_progress(link: socket.socket) -> None:
    """That the event loop turns: a loop that stands still answers nobody, and `holdfast probe` must see it."""
    progress = Progress(link)
    while True:
        progress.made()
        await asyncio.sleep(1.0)


def _drain(services: ApiServices, server: Server, delay: float) -> None:
    """Fail the readiness probe at once, so that nobody sends more, and end when those who send have had time to see it.

    A second signal does not wait.
    """
    if services.watch.draining:
        server.stop()
    services.watch.draining = True
    services.changes.end()
    asyncio.get_running_loop().call_later(delay, server.stop)


def _supervisor_died(link: socket.socket, server: Server) -> None:
    """The supervisor never writes: to read anything is to read its end."""
    asyncio.get_running_loop().remove_reader(link)
    server.stop()


def main() -> int:
    plan = ApiPlan(**json.loads(os.environ.pop(VARIABLE)))
    settings = Settings.model_validate_json(plan.settings)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )
    quieten()
    hint = proxy_hint(os.environ, settings.trusted_proxies)
    if hint:
        logging.getLogger("holdfast").warning("%s", hint)
    try:
        asyncio.run(_serve(plan))
    except (AppLoadError, ConfigurationError) as error:
        logging.getLogger("holdfast").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
