"""The API over ASGI, with its services really running."""

import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from holdfast.core.api_keys import Role, make_key
from holdfast.core.health import Limits
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.keys import create_api_key
from holdfast.postgres.migrate import load
from holdfast.services.health import Rhythm
from holdfast.services.keyring import KeyRing
from holdfast.services.limiter import RateLimiter
from holdfast.web.app import create_app
from holdfast.web.services import ApiServices, ApiSettings
from tests.services.helpers import until

NEWEST = load()[-1].version
HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"
#: Looks at the ledger as often, and for as short, as a busy machine allows.
QUICK = Rhythm(ping=0.1, ping_deadline=1.0, look=0.1, slow=0.1, look_deadline=0.3, itself=0.1, stuck=10.0)


@dataclass
class Api:
    """The application, its services, and a caller of it."""

    app: FastAPI
    services: ApiServices
    client: httpx.AsyncClient

    def caller(self, address: str, **headers: str) -> httpx.AsyncClient:
        """Somebody else who calls, from that address."""
        transport = httpx.ASGITransport(self.app, client=(address, 1234), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost:8484", headers=headers)


def settings(dsn: str, **changes: Any) -> ApiSettings:
    usual: dict[str, Any] = {
        "dsn": dsn,
        "schema_version": NEWEST,
        "timeout": 20.0,
        "limits": Limits(slow_ping=60.0, worsen=1, clear=1),
    }
    return ApiSettings(**{**usual, **changes})


@asynccontextmanager
async def api_over(
    dsn: str, *, started: bool = True, limiter_deadline: float = 30.0, **changes: Any
) -> AsyncIterator[Api]:
    """The API, on a machine that may be busy; once `started`, all in its background has looked at the ledger."""
    services = ApiServices(settings(dsn, **changes))
    services.limiter = RateLimiter(dsn, deadline=limiter_deadline)
    services.ring = KeyRing(services.ledger, look_every=0.05)  # it knows a key that was just made at once
    app = create_app(services)
    made = Api(app, services, None)  # type: ignore[arg-type]
    made.client = made.caller(HERE)
    async with made.client:
        if started:
            await services.start()
            await until(lambda: services.limiter.mode == "postgres" and services.ring.in_use is not None)
            await services.watch.refresh()  # with all of that known
        try:
            yield made
        finally:
            await services.stop()


async def make_token(services: ApiServices, *, role: str = Role.ADMIN, valid_for: float | None = None) -> str:
    """A key in the ledger."""
    made = make_key(secrets.token_bytes(5), secrets.token_bytes(32))
    await services.ledger.call(create_api_key(made.id, "test", role, made.secret_hash, valid_for))
    return made.token


@contextmanager
def frozen(server: EmbeddedPostgres) -> Iterator[None]:
    """Postgres stopped with SIGSTOP: it keeps every connection, and answers nothing."""

    def send(number: signal.Signals) -> None:
        for pid in server._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)
