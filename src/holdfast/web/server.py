"""Listening on HTTP: a bound socket, and a server whose signals are ours."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator

import uvicorn

from holdfast.errors import ConfigurationError


class Server(uvicorn.Server):
    """Signals are ours: uvicorn would raise them again at its end, and a clean stop would look like a death by one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


def bind(host: str, port: int, *, what: str = "the API", settings: str = "--port or HOLDFAST_PORT") -> socket.socket:
    """A bound socket. Raises `ConfigurationError` with the way out where that address cannot be had."""
    family = socket.AF_INET6 if _is_ipv6(host) else socket.AF_INET
    # asyncio turns Nagle's algorithm off for connections of TCP by that name alone: without it, each answer on a kept
    # connection waits for the caller's delayed acknowledgement, 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{what} cannot listen on {host} port {port}: {os.strerror(error.errno or 0).lower()}; "
            f"stop what uses it, or choose another port: {settings} (0 takes a free one)"
        ) from error
    return listener


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
