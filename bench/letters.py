"""Dead letters: how quickly messages are captured, each kept and grouped before it is deleted, beside a bare loop; and
how soon after its arrival somebody is told of one."""

import asyncio
import contextlib
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

from bench import servers
from bench.harness import ROUNDS, NotRun, Row
from bench.sqs import sqs_server
from holdfast.app import new_id
from holdfast.cli.local_sqs import PACKAGE
from holdfast.events import Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.dlq_looks import QueueLooker
from holdfast.services.dlq_queues import Sources
from holdfast.sqs.capture import LANES
from holdfast.sqs.client import Sqs, queue_name

#: With 40,000 messages in it the local server takes minutes a round, and so would the comparison.
MANY, CAUSES, SENDERS = 8_000, 3, 8
#: Seconds between two looks, and arrivals in a round.
INTERVAL, ARRIVALS = 5.0, 2


@contextlib.contextmanager
def rows() -> Iterator[tuple[list[Row], dict[str, str]]]:
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(servers.folder())
        dsn = stack.enter_context(servers.postgres(base))
        endpoint = stack.enter_context(sqs_server())
        letters = _Letters(dsn, endpoint)
        alerts = stack.enter_context(_alerts(dsn, endpoint))
        told = Row(
            f"from the arrival of a message in a dead-letter queue until the alert, looked at each {INTERVAL:g} s",
            "s",
            alerts.told,
            target=INTERVAL + 5,
            least=False,
            note=f"the slowest of {ARRIVALS} arrivals a round, at times that nobody chose, each in a queue without one",
        )
        row = Row(
            f"{MANY:,} dead letters of {CAUSES} causes, captured and grouped, against a bare receive-delete loop",
            "messages a second",
            letters.captured,
            {"bare": letters.bare},
            0.8,
            note=f"both with {LANES} receives at a time, by the same client",
        )
        yield [told, row], {**servers.versions(dsn), "server": PACKAGE, "messages": "about 130 bytes of JSON"}


@contextlib.contextmanager
def _alerts(dsn: str, endpoint: str) -> Iterator["_Alerts"]:
    """The monitor as its users start it, with a database of its own, and somebody who plays Slack."""
    made = _Alerts(servers.another(dsn, "alerts"), endpoint)
    try:
        yield made
    finally:
        made.close()


class _Alerts:
    """Messages that arrive one after the other, each in a queue of its own, and the posts that tell of them."""

    def __init__(self, dsn: str, endpoint: str) -> None:
        self._endpoint, self._dice, self._number = endpoint, random.Random(5), 0
        self._posts = queue.Queue[tuple[float, str]]()
        told = self._posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.put((time.monotonic(), self.rfile.read(int(self.headers["Content-Length"])).decode()))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._slack = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._slack.serve_forever, daemon=True).start()
        self._urls = [asyncio.run(self._create(f"alerts-{number}-dlq")) for number in range(ARRIVALS * ROUNDS)]
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-bench-alerts-")
        environment = {
            "DATABASE_URL": dsn,
            "HOLDFAST_DLQ_URLS": ",".join(self._urls),
            "HOLDFAST_DLQ_INTERVAL": f"{INTERVAL:g}",
            "HOLDFAST_RUN_DIR": self._folder.name,
            "SLACK_WEBHOOK_URL": f"http://127.0.0.1:{self._slack.server_port}/services/T/B/x",
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._monitor = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "monitor", "dlq"],
            env={**os.environ, **environment},
            cwd=self._folder.name,
            stdout=self._log,
            stderr=self._log,
        )

    def told(self) -> float:
        """Seconds from the send to the post that names its queue, the slowest of some."""
        found = []
        for _ in range(ARRIVALS):
            time.sleep(self._dice.uniform(0, INTERVAL))
            url = self._urls[self._number]
            self._number += 1
            sent = time.monotonic()
            asyncio.run(self._send(url))
            found.append(self._post_about(queue_name(url), sent) - sent)
        return max(found)

    def close(self) -> None:
        self._monitor.terminate()
        try:
            self._monitor.wait(15)
        except subprocess.TimeoutExpired:
            self._monitor.kill()
        self._slack.shutdown()
        self._folder.cleanup()

    def _post_about(self, name: str, since: float) -> float:
        while True:
            try:
                at, body = self._posts.get(timeout=max(since + 60 - time.monotonic(), 0.01))
            except queue.Empty:
                self._log.seek(0)
                raise NotRun(f"nobody was told of {name} within 60 s: {self._log.read()[-500:].decode()}") from None
            if name in body and at >= since:
                return at

    async def _create(self, name: str) -> str:
        sqs = Sqs(self._endpoint)
        url = await sqs.create(name, {}, {})
        await sqs.close()
        return url

    async def _send(self, url: str) -> None:
        sqs = Sqs(self._endpoint)
        await sqs.send(url, [_body(self._number)])
        await sqs.close()


class _Letters:
    """A full queue, again and again, and two who empty it."""

    def __init__(self, dsn: str, endpoint: str) -> None:
        self._dsn, self._endpoint, self._number = dsn, endpoint, 0

    def captured(self) -> float:
        """By the monitor's own look: whole into the ledger, then out of SQS."""
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute("TRUNCATE holdfast.dead_letters")
            rate = asyncio.run(self._captured())
            query = (
                "SELECT count(*), count(DISTINCT fingerprint) FROM holdfast.dead_letters WHERE captured_at IS NOT NULL"
            )
            found = conn.execute(query).fetchone()
        if found != (MANY, CAUSES):
            raise NotRun(f"not all was captured: {found}")
        return rate

    def bare(self) -> float:
        """By who receives and deletes, and keeps nothing."""
        return asyncio.run(self._bare())

    async def _captured(self) -> float:
        sqs, ledger = Sqs(self._endpoint), AsyncLedger(self._dsn)
        url = await self._filled(sqs)
        looker = QueueLooker(ledger, Sources((url,), (), (queue_name(url),)), Sinks(), longest=3600.0, new_id=new_id)
        began = time.monotonic()
        await looker.look_at(sqs, url)
        took = time.monotonic() - began
        await sqs.close()
        await ledger.close()
        return MANY / took

    async def _bare(self) -> float:
        sqs = Sqs(self._endpoint)
        url = await self._filled(sqs)
        began = time.monotonic()
        taken = sum(await asyncio.gather(*(self._take(sqs, url) for _ in range(LANES))))
        took = time.monotonic() - began
        await sqs.close()
        if taken != MANY:
            raise NotRun(f"{taken:,} of {MANY:,} messages were received")
        return MANY / took

    async def _take(self, sqs: Sqs, url: str) -> int:
        taken = 0
        while messages := await sqs.receive(url, wait=0, visibility=60):
            await sqs.delete(url, [message.receipt for message in messages])
            taken += len(messages)
        return taken

    async def _filled(self, sqs: Sqs) -> str:
        self._number += 1
        url = await sqs.create(f"orders-{self._number}-dlq", {}, {})
        share = MANY // SENDERS
        await asyncio.gather(*(self._send(sqs, url, sender * share, share) for sender in range(SENDERS)))
        return url

    async def _send(self, sqs: Sqs, url: str, first: int, count: int) -> None:
        for start in range(first, first + count, 1000):
            await sqs.send(url, [_body(number) for number in range(start, min(start + 1000, first + count))])


def _body(number: int) -> str:
    cause = ("AddressUnknown", "OutOfStock", "Timeout")[number % CAUSES]
    return json.dumps({
        "type": "ship", "job_id": f"order-{number}", "error_type": cause, "error_message": f"order {number}",
    })  # fmt: skip
