"""What ./run does: starts the backend as it was, orders exports, counts; then adds Holdfast, and counts again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import psycopg

HERE = Path(__file__).resolve().parent
EXPORTS, PATIENCE = 40, 120.0
#: Longer than the longest silence that holdfast.toml allows.
STUCK_AFTER = 3.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE:g} s; logs are in {LOGS}")
        time.sleep(0.1)


LOGS = Path(os.environ.get("LOGS", "/tmp/holdfast-legacy-backend"))  # noqa: S108
FOLDER_DATA = LOGS / "data"
started: list[subprocess.Popen[bytes]] = []
workers: list[subprocess.Popen[bytes]] = []


def start(*command: str) -> subprocess.Popen[bytes]:
    with (LOGS / f"{len(started)}-{Path(command[-1]).name or command[0]}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=HERE, stdout=log, stderr=log, start_new_session=True)
    started.append(process)
    return process


@contextlib.contextmanager
def all_stopped() -> Iterator[None]:
    """A worker that hangs in a call without a timeout does not hear a signal: all are killed."""
    try:
        yield
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL if process in workers else signal.SIGTERM)
        for process in started:
            process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def counts() -> Counter[str]:
    with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
        return Counter(dict(conn.execute("SELECT status, count(*) FROM public.exports GROUP BY status").fetchall()))


def last_heartbeat() -> float:
    with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
        found = conn.execute("SELECT extract(epoch FROM now() - max(heartbeat_at)) FROM public.exports").fetchone()
    return float(found[0] or 0.0) if found else 0.0


def show(when: str) -> None:
    found = counts()
    print(f"{when}: {found['done']} of {EXPORTS} exports done, {found['processing']} stuck in processing", flush=True)


def database(ended: contextlib.ExitStack) -> None:
    """`DATABASE_URL`, or else a server of Holdfast's own, only to have one here."""
    if not os.environ.get("DATABASE_URL"):
        from holdfast.postgres.database import resolve_database

        local = resolve_database(None, data_dir=FOLDER_DATA, https=None)
        ended.callback(local.release)
        os.environ["DATABASE_URL"] = local.dsn
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS public.exports")
        conn.execute((HERE / "schema.sql").read_bytes())


def queue() -> None:
    """A queue for exports, on a local SQS server unless `SQS_QUEUE_URL` names one."""
    if os.environ.get("SQS_QUEUE_URL"):
        return
    port = free_port()
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    start("-m", "holdfast", "local-sqs", "--port", str(port))
    until(lambda: answers(f"http://127.0.0.1:{port}/_ministack/health"), "the local SQS server")
    client = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}")
    os.environ["SQS_QUEUE_URL"] = client.create_queue(QueueName="exports")["QueueUrl"]


def main() -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    api, renderer = free_port(), free_port()
    os.environ["RENDERER_URL"] = f"http://127.0.0.1:{renderer}"
    with contextlib.ExitStack() as ended:
        database(ended)
        ended.enter_context(all_stopped())
        queue()
        start("renderer.py", str(renderer))
        start("-m", "uvicorn", "api:app", "--port", str(api))
        workers.extend(start("worker.py") for _ in range(2))
        until(lambda: answers(f"http://127.0.0.1:{api}/exports/0"), "the backend's API")
        for _ in range(EXPORTS):
            request = urllib.request.Request(f"http://127.0.0.1:{api}/exports?pages=3", method="POST")
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
        until(lambda: not counts()["pending"] and last_heartbeat() > STUCK_AFTER, "the exports")
        show("before")
        for command in (("migrate", "up"), ("watch", "check"), ("watch", "sweep", "--dry-run")):
            print(f"$ holdfast {' '.join(command)}", flush=True)
            subprocess.run([sys.executable, "-m", "holdfast", *command], cwd=HERE, check=True)
        print("$ holdfast monitor stale", flush=True)
        start("-m", "holdfast", "monitor", "stale")
        until(lambda: counts()["done"] == EXPORTS, "the rescue")
        show("after")


if __name__ == "__main__":
    main()
