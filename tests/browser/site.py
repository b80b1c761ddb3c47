"""The dashboard on a real port, its server in a thread of this process; and a page that keeps what went wrong in it."""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from playwright.sync_api import BrowserContext, Page

from holdfast.core.api_keys import Role, make_key
from holdfast.core.ratelimit import Policy
from holdfast.postgres.keys import create_api_key
from holdfast.postgres.ledger import SyncLedger
from holdfast.services.sessions import Sessions
from holdfast.web.app import create_app
from holdfast.web.server import Server, bind
from holdfast.web.services import ApiServices
from tests.web.support import settings


@dataclass
class Site:
    """A running dashboard. `url` ends with a slash."""

    url: str
    dsn: str
    services: ApiServices
    loop: asyncio.AbstractEventLoop
    server: Server

    def run(self, coroutine: Any) -> Any:
        """Something on the server's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def key(self, role: Role) -> str:
        """A new key."""
        made = make_key(secrets.token_bytes(5), secrets.token_bytes(32))
        ledger = SyncLedger(self.dsn)
        ledger.call(create_api_key(made.id, f"{role} of the tests", role, made.secret_hash, None))
        ledger.close()
        return made.token

    def link(self, role: Role = Role.ADMIN) -> str:
        """A link that signs in once."""
        sessions: Sessions = self.services.sessions
        return f"{self.url}sign-in?code={self.run(sessions.make_link(role, f'{role} of the tests'))}"


class Stripped:
    """What a proxy does that serves an application below a prefix, which the application does not know of."""

    def __init__(self, app: Any, prefix: str) -> None:
        self._app = app
        self._prefix = prefix.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["raw_path"]
            assert path.startswith(self._prefix), f"{path} leads out of the prefix"
            scope = {**scope, "raw_path": path.removeprefix(self._prefix)}
            scope["path"] = scope["path"].removeprefix(self._prefix.decode())
        await self._app(scope, receive, send)


@contextlib.contextmanager
def serving(dsn: str, *, prefix: str = "", **changes: Any) -> Iterator[Site]:
    """The whole application, limits wide enough for tests; below a prefix, as behind a proxy."""
    wide = {"rate_limit": Policy.parse("100000/minute", name="default"), **changes}
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    ready = threading.Event()
    made: list[Site] = []

    async def serve() -> None:
        services = ApiServices(settings(dsn, **wide))
        app: Any = create_app(services)
        app = Stripped(app, prefix) if prefix else app
        config = uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=3)
        server = Server(config)
        loop = asyncio.get_running_loop()
        made.append(Site(f"http://127.0.0.1:{port}{prefix}/dashboard/", dsn, services, loop, server))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        await services.watch.refresh()
        ready.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(60), "the server did not start"
    site = made[0]
    try:
        yield site
    finally:
        site.services.changes.end()
        site.server.stop()
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"


@dataclass
class Watched:
    """A page, and what its browser complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)


def watched(context: BrowserContext) -> Watched:
    """A page whose console, errors and policy violations are kept."""
    made = Watched(context.new_page())
    made.page.on(
        "console", lambda said: made.complaints.append(said.text) if said.type in ("error", "warning") else None
    )
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.add_init_script(
        "document.addEventListener('securitypolicyviolation',"
        " (event) => console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI));"
    )
    return made
