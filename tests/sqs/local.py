"""A real SQS-compatible server for tests, from the package index, in an environment of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from holdfast.cli.child import VARIABLE
from holdfast.cli.local_sqs import ACCOUNT, LocalSqsPlan, prepare


class LocalSqs:
    """The server and its queue for bells."""

    def __init__(self, plan: LocalSqsPlan) -> None:
        self.plan = plan
        self.endpoint = f"http://127.0.0.1:{plan.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "holdfast.cli.local_sqs_child"],
            env={**os.environ, VARIABLE: json.dumps(plan.__dict__)},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def url(self, name: str) -> str:
        return f"{self.endpoint}/{ACCOUNT}/{name}"

    def freeze(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def wait_until_it_answers(self, within: float = 60.0) -> None:
        end = time.monotonic() + within
        while True:
            try:
                query = "Action=GetQueueUrl&QueueName=holdfast-bells&Version=2012-11-05"
                with urllib.request.urlopen(f"{self.endpoint}/?{query}", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                pass
            if time.monotonic() > end:
                raise AssertionError(f"the local SQS server did not make its queues within {within:g} s")
            time.sleep(0.05)

    def stop(self) -> None:
        self.thaw()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def local_sqs() -> Iterator[LocalSqs]:
    server = LocalSqs(replace(prepare()))
    try:
        server.wait_until_it_answers()
        yield server
    finally:
        server.stop()
