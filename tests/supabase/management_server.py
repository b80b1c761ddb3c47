"""A local server that answers like Supabase's Management API, with a real Postgres behind it.

What it answers is as documented at https://supabase.com/docs/reference/api: 201 with the last statement's rows, 400
with Postgres's words, 401, 403, 404, 429. `misbehave` queues other answers, each used once.
"""

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
from psycopg.rows import dict_row

REF = "abcdefghijklmnopqrst"
TOKEN = "sbp_0123456789abcdef0123456789abcdef01234567"
#: A token of an account that has no access to the project, and one without the scope to write.
STRANGER, READER = "sbp_stranger", "sbp_reader"
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>proxy</body></html>"

Answer = Callable[["Handler"], None]


@dataclass
class ManagementServer:
    """Where it listens, what it was asked, and what it will do instead of answering."""

    dsn: str
    address: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    misbehave: deque[Answer] = field(default_factory=deque)
    pooler: dict[str, Any] | None = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ManagementServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.asked.append((self.path, body["query"]))
        self._answer(lambda: self._query(body["query"]))

    def do_GET(self) -> None:
        self.state.asked.append((self.path, ""))
        self._answer(self._pooler)

    def _answer(self, well: Callable[[], None]) -> None:
        if self.state.misbehave:
            self.state.misbehave.popleft()(self)
        elif self.headers.get("Authorization") not in {f"Bearer {each}" for each in (TOKEN, STRANGER, READER)}:
            self.send(401, {"message": "Unauthorized"})
        elif not self.path.startswith(f"/v1/projects/{REF}/"):
            self.send(404, {"message": "Project not found"})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.send(403, {"message": "Forbidden resource"})
        else:
            well()

    def _query(self, text: str) -> None:
        assert self.path == f"/v1/projects/{REF}/database/query", self.path
        with psycopg.connect(self.state.dsn, autocommit=True, row_factory=dict_row) as conn:
            try:
                cursor = conn.execute(text.encode())
            except psycopg.Error as error:
                said = str(error).replace("\n", "\n")
                message = f"Failed to run sql query: ERROR:  {error.sqlstate}: {said}\n"
                self.send(400, {"message": message})
                return
            while cursor.nextset():
                pass
            self.send(201, cursor.fetchall() if cursor.description else [])

    def _pooler(self) -> None:
        assert self.path == f"/v1/projects/{REF}/config/database/pooler", self.path
        self.send(200, [self.state.pooler] if self.state.pooler else [])

    def send(self, status: int, content: Any, **fields: str) -> None:
        self.raw(status, json.dumps(content, default=str).encode(), "application/json; charset=utf-8", **fields)

    def raw(self, status: int, content: bytes, kind: str, **fields: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def page(status: int) -> Answer:
    """HTML, as a proxy in between sends it."""
    return lambda handler: handler.raw(status, PAGE, "text/html")


def too_many(after: str) -> Answer:
    return lambda handler: handler.send(
        429, {"message": "ThrottlerException: Too Many Requests"}, X_RateLimit_Reset=after
    )


def refused(status: int) -> Answer:
    return lambda handler: handler.send(status, {"message": f"refused with {status}"})


def half_sent(handler: Handler) -> None:
    """The head promises more than comes."""
    handler.send_response(201)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'[{"half":')
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def applied_then_lost(handler: Handler) -> None:
    """The statement is run, and nobody hears of it."""
    with psycopg.connect(handler.state.dsn, autocommit=True) as conn:
        conn.execute(handler.state.asked[-1][1].encode())
    half_sent(handler)


@contextlib.contextmanager
def management_server(dsn: str) -> Iterator[ManagementServer]:
    state = ManagementServer(dsn)
    handler = type("BoundHandler", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield state
        finally:
            server.shutdown()
