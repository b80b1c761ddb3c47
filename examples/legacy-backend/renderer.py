"""A service that renders a page, and for some pages never answers: every team knows one."""

import itertools
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Each twentieth page is never answered.
NEVER = 20
numbers = itertools.count(1)


class Render(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if next(numbers) % NEVER == 0:
            threading.Event().wait()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Render)
    server.daemon_threads = True
    server.serve_forever()
