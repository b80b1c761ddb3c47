"""The whole system for one test: workers, API, both monitors, SQS and a Slack.

Somebody enqueues all the while, somebody looks at the API's health, and somebody asks it for more than he may.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.errors import HoldfastError
from tests.chaos.harness import Chaos, hold_for, until
from tests.notify.slack_server import SlackServer
from tests.sqs.local import LocalSqs

#: Seconds: between two looks at health, and how long a look may take on a busy machine.
LOOK, PATIENCE = 0.5, 3.0
#: Jobs in each round of the one who enqueues, and the seconds between rounds.
ROUND, PAUSE = 8, 0.5
#: Seconds between two requests of one who may send 100 in 60 s.
GREEDY = 0.2
#: A dead-letter queue of another program.
DEAD = "orders-dlq"


@dataclass
class Service:
    """One of our commands under its supervisor, in a session of its own."""

    chaos: Chaos
    words: tuple[str, ...]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] = field(init=False)
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.chaos.folder / f"{'-'.join(self.words[:2])}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", *self.words],
                cwd=self.chaos.folder,
                env={**self.chaos.environment(self.chaos.dsn), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def children(self) -> list[int]:
        """The processes under the supervisor."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with contextlib.suppress(OSError):
            return [int(pid) for pid in found.read_text().split()]
        return []


@dataclass(frozen=True)
class Seen:
    """One look at the API: when it began, how long it took, what `/livez` and `/api/health` answered (0: refused)."""

    at: float
    took: float
    live: int
    health: int


class System:
    """All of it; what it starts ends in `close`, or with the fleet."""

    def __init__(self, chaos: Chaos, slack: SlackServer, sqs: LocalSqs) -> None:
        self.chaos, self.slack, self.sqs = chaos, slack, sqs
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.environment = {
            "SLACK_WEBHOOK_URL": slack.webhook,
            "HOLDFAST_SQS_QUEUE_URL": sqs.url("holdfast-bells"),
            "HOLDFAST_PORT": str(self.port),
            "HOLDFAST_RUN_DIR": str(chaos.folder / "run"),
            "HOLDFAST_DLQ_INTERVAL": "2",
            "HOLDFAST_DLQ_URLS": sqs.url(DEAD),
        }
        self.seen: list[Seen] = []
        self.refused = 0
        self.asked: list[tuple[float, float, int]] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Returns once all of it is at work."""
        self._sqs("CreateQueue", QueueName=DEAD)
        without = {**self.environment, "HOLDFAST_MONITORS": "false"}
        self.chaos.start(2, processes=2, slots=10, environment=without)
        self.api = Service(self.chaos, ("api", "chaos_app:hf"), self.environment)
        self.stale = Service(self.chaos, ("monitor", "stale"), self.environment)
        self.dlq = Service(self.chaos, ("monitor", "dlq"), self.environment)
        until(lambda: self._get("/api/health") == 200, "the API is well")
        looked = "SELECT swept_at FROM holdfast.monitors WHERE name = 'watch_health'"
        until(lambda: self.chaos.value(looked), "incidents are looked for")
        for work in (self._enqueue, self._look, self._ask):
            thread = threading.Thread(target=work)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """No more jobs, and no more looks."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _enqueue(self) -> None:
        """What the ledger confirmed counts; what it refused may be there or not, and is nobody's."""
        while not self._stop.wait(PAUSE):
            for kind, seconds in (("innocent", 0.3), ("in_thread", 0.2), ("paid", 0.2)):
                try:
                    self.chaos.submit(kind, ROUND if kind == "innocent" else 2, seconds)
                except HoldfastError:
                    self.refused += 1

    def _look(self) -> None:
        while not self._stop.wait(LOOK):
            began = time.time()
            live, health = self._get("/livez"), self._get("/api/health")
            self.seen.append(Seen(began, time.time() - began, live, health))

    def _ask(self) -> None:
        """When he asked, when he had the answer, and what it was."""
        while not self._stop.wait(GREEDY):
            sent, code = time.time(), self._get("/api/keys/self")
            self.asked.append((sent, time.time(), code))

    def _get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    # Faults ------------------------------------------------------------

    def kill_a_worker(self) -> None:
        if workers := self.chaos.workers():
            _send(signal.SIGKILL, self.chaos.rng.choice(workers).pid)

    def freeze_a_worker(self) -> None:
        if workers := self.chaos.workers():
            pid = self.chaos.rng.choice(workers).pid
            _send(signal.SIGSTOP, pid)
            hold_for(3)
            _send(signal.SIGCONT, pid)

    def kill_a_monitor(self) -> None:
        for pid in self.chaos.rng.choice([self.stale, self.dlq]).children():
            _send(signal.SIGKILL, pid)

    def kill_the_api(self) -> None:
        for pid in self.api.children():
            _send(signal.SIGKILL, pid)

    def restart_postgres(self) -> None:
        self.chaos.server.restart()

    def freeze_postgres(self) -> None:
        pids = self.chaos.server._processes()
        for pid in pids:
            _send(signal.SIGSTOP, pid)
        hold_for(3)
        for pid in self.chaos.server._processes():
            _send(signal.SIGCONT, pid)

    def end_all_sessions(self) -> None:
        self.chaos.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'holdfast%%' AND datname IS NOT NULL"
        )

    def freeze_sqs(self) -> None:
        self.sqs.freeze()
        hold_for(4)
        self.sqs.thaw()

    def purge_the_bells(self) -> None:
        self._purge("holdfast-bells")

    def somebody_s_message_dies(self) -> None:
        """In a queue of another program, which is watched."""
        body = json.dumps({"type": "ship", "error_type": "OutOfStock"})
        self._sqs("SendMessage", QueueUrl=self.sqs.url(DEAD), MessageBody=body)

    def dead_messages_are_taken_away(self) -> None:
        """By who wrote them, so that their incident is over."""
        self._purge(DEAD)

    def _purge(self, name: str) -> None:
        self._sqs("PurgeQueue", QueueUrl=self.sqs.url(name))

    def _sqs(self, action: str, **body: str) -> None:
        """One call, past every client of ours."""
        connection = http.client.HTTPConnection("127.0.0.1", self.sqs.plan.port, timeout=30)
        headers = {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0"}
        connection.request("POST", "/", json.dumps(body), headers)
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        assert answer.status == 200, told

    def slack_fails(self) -> None:
        self.slack.answers(503, "no")
        hold_for(3)
        self.slack.answers(200)

    @contextlib.contextmanager
    def postgres_away(self, seconds: float) -> Iterator[tuple[float, float]]:
        """Stopped at once, for so long; yields the times between which it was away, when it is back."""
        self.chaos.server.kill()
        began = time.time()
        hold_for(seconds)
        over = time.time()
        self.chaos.server.start()
        yield began, over


def _send(number: signal.Signals, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
