"""The API's process, as `holdfast up` starts it: `python -m holdfast.cli.api_child`. Not for people."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import uvicorn

from holdfast.cli.child import VARIABLE
from holdfast.core.ratelimit import Policy
from holdfast.errors import ConfigurationError
from holdfast.postgres.migrate import load
from holdfast.services.limiter import RateLimiter
from holdfast.web.app import create_app
from holdfast.web.identity import proxy_hint
from holdfast.web.metrics import LedgerMetrics
from holdfast.web.probes import LedgerProbe

#: Seconds that open requests get when the process is told to end.
LAST_REQUESTS = 3


@dataclass(frozen=True)
class ApiPlan:
    """What the API's process is told by its supervisor."""

    link: int
    dsn: str
    host: str
    port: int
    log_level: str
    rate_limit: str
    trusted_proxies: Sequence[str]
    rate_limit_headers: Sequence[str]


def command(plan: ApiPlan) -> tuple[Sequence[str], Mapping[str, str]]:
    """The arguments and the environment that start this process."""
    return ("-m", "holdfast.cli.api_child"), {**os.environ, VARIABLE: json.dumps(asdict(plan))}


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `ConfigurationError` with the way out where that address cannot be had."""
    family = socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"the API cannot listen on {host} port {port}: {os.strerror(error.errno or 0).lower()}; "
            "stop what uses it, or choose another port: --port or HOLDFAST_PORT (0 takes a free one)"
        ) from error
    return listener


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn would raise them again at its end, and a clean stop would look like a death by one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


async def _serve(plan: ApiPlan) -> None:
    server = _Server(
        uvicorn.Config(
            create_app(
                LedgerProbe(plan.dsn, schema_version=load()[-1].version),
                LedgerMetrics(plan.dsn),
                RateLimiter(plan.dsn),
                Policy.parse(plan.rate_limit, name="default"),
                [ipaddress.ip_network(each) for each in plan.trusted_proxies],
                rate_limit_headers=plan.rate_limit_headers,
            ),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LAST_REQUESTS,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    link = socket.socket(fileno=plan.link)
    link.setblocking(False)
    loop.add_reader(link, _supervisor_died, link, server)
    await server.serve(sockets=[bind(plan.host, plan.port)])


def _supervisor_died(link: socket.socket, server: _Server) -> None:
    """The supervisor never writes: to read anything is to read its end."""
    asyncio.get_running_loop().remove_reader(link)
    server.stop()


def main() -> int:
    plan = ApiPlan(**json.loads(os.environ.pop(VARIABLE)))
    logging.basicConfig(
        level=plan.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr
    )
    hint = proxy_hint(os.environ, plan.trusted_proxies)
    if hint:
        logging.getLogger("holdfast").warning("%s", hint)
    try:
        asyncio.run(_serve(plan))
    except ConfigurationError as error:
        logging.getLogger("holdfast").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
