"""OpenTelemetry from a worker as it is deployed, to a collector over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.command import eventually, running
from tests.cli.test_worker import APP
from tests.support import Session, enqueue, rows


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Its address, and what it was sent: paths and bodies."""
    heard: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_a_worker_tells_a_collector_of_its_runs_when_it_is_asked_to(
    database: str, conn: Session, tmp_path: Path, is_asked_for: bool
) -> None:
    (tmp_path / "tasks.py").write_text(APP)
    with collector() as (address, heard):
        where = {"DATABASE_URL": database, "OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        asked = {"HOLDFAST_OTEL": "true"} if is_asked_for else {}
        with running("worker", "tasks:hf", cwd=tmp_path, **where, **asked) as worker:
            worker.says("worker_started")
            enqueue(conn, kind="holdfast.canary", queue="default")
            eventually(lambda: rows(conn, "SELECT FROM holdfast.jobs WHERE status = 'succeeded'"), worker.explain)
            if is_asked_for:
                eventually(lambda: [body for path, body in heard if path == "/v1/traces"], worker.explain)
    spans = b"".join(body for path, body in heard if path == "/v1/traces")
    measured = b"".join(body for path, body in heard if path == "/v1/metrics")
    assert (b"process default" in spans) is is_asked_for
    assert (b"messaging.process.duration" in measured) is is_asked_for, "what is left is sent at the end"
    assert (b"holdfast-worker" in spans) is is_asked_for
