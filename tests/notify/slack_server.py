"""A server that plays Slack over real HTTP: it answers as it was told, and keeps what was posted."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SlackServer:
    """Answers `ok` unless told otherwise; what it was told holds until it is told something else."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.gets = 0
        self._answer: tuple[int, str, dict[str, str]] | str = (200, "ok", {})
        self._free = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer._handle(self, body)

            def do_GET(self) -> None:
                outer.gets += 1
                assert isinstance(outer._answer, tuple)
                self.send_response(outer._answer[0])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def webhook(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/services/T000/B000/secret-of-slack"

    @property
    def titles(self) -> list[str]:
        return [str(post["blocks"][0]["text"]["text"]) for post in list(self.posts)]

    def answers(self, status: int, body: str = "ok", headers: dict[str, str] | None = None) -> None:
        self._answer = (status, body, headers or {})

    def drops(self) -> None:
        self._answer = "drop"

    def hangs(self) -> None:
        self._answer = "hang"

    def takes_without_an_answer(self) -> None:
        self._answer = "take"

    def drips(self) -> None:
        self._answer = "drip"

    def close(self) -> None:
        self._free.set()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if self._answer == "drop":
            handler.connection.close()
            return
        if self._answer == "hang":
            self._free.wait(30)
            return
        if self._answer == "take":
            self.posts.append(json.loads(body))
            self._free.wait(30)
            return
        if self._answer == "drip":
            handler.send_response(200)
            handler.end_headers()
            while not self._free.wait(0.1):
                handler.wfile.write(b"o")
            return
        assert isinstance(self._answer, tuple)
        status, text, headers = self._answer
        if status < 300:
            self.posts.append(json.loads(body))
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.bodies.append(body)
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(text.encode())
