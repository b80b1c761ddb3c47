"""The demo over SQS: bells are lost, doubled and gone with their server, and no job is."""

import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from holdfast.cli.demo_sqs import Bells, MessageProxy
from holdfast.core.bell import Bell
from holdfast.errors import QueueNotFound
from holdfast.sqs.bell import SqsBells
from holdfast.sqs.client import Sqs
from tests.cli.test_demo import run_demo
from tests.sqs.local import LocalSqs, local_sqs


def test_jobs_run_while_sqs_is_stopped_and_bells_are_lost_and_doubled(database: str) -> None:
    code, report = run_demo(
        database, "--sqs", "--stop-sqs", "3", "--chaos-messages", "--kill", "1",
        "--jobs", "500", "--processes", "2", "--slots", "8",
    )  # fmt: skip
    assert (code, report["problems"]) == (0, [])
    assert report["succeeded"] == report["submitted"] == 500
    assert (report["lost"], report["wrong"], report["dead"], report["false_rescues"]) == (0, 0, 0, 0)
    faults = {fault["what"]: fault for fault in report["faults"]}
    assert faults.keys() == {"kill", "stop of SQS"}
    assert faults["stop of SQS"]["done_meanwhile"] > 0
    assert faults["stop of SQS"]["back_after"] >= 3
    bells = report["bells"]
    assert bells["passed"] > 0
    assert bells["sent"] == bells["passed"] - bells["doubled"] + bells["dropped"]


async def test_with_chaos_some_bells_are_lost_some_come_twice_and_the_sender_is_told_that_all_were_taken() -> None:
    with local_sqs() as server:
        proxy = MessageProxy(server.plan, random.Random(7), chaos=True)
        sent = [f"queue-{number}" for number in range(60)]
        async with proxy.serving() as url:
            bells = SqsBells(url)
            assert await bells.ring(list(map(Bell, sent))) == []
            await bells.close()
        arrived = await _take_all(server)
    assert proxy.bells.dropped == len(set(sent) - arrived.keys()) > 0
    assert proxy.bells.doubled == sum(1 for count in arrived.values() if count == 2) > 0
    assert proxy.bells.passed == arrived.total()


async def test_without_chaos_each_bell_arrives_once() -> None:
    with local_sqs() as server:
        proxy = MessageProxy(server.plan, random.Random(7), chaos=False)
        async with proxy.serving() as url:
            bells = SqsBells(url)
            assert await bells.ring(list(map(Bell, "abc"))) == []
            await bells.close()
        assert await _take_all(server) == Counter("abc")


async def test_an_error_of_the_server_reaches_the_sender_and_nothing_is_counted() -> None:
    with local_sqs() as server:
        proxy = MessageProxy(server.plan, random.Random(7), chaos=False)
        async with proxy.serving() as url:
            bells = SqsBells(f"{url}-that-nobody-made")
            with pytest.raises(QueueNotFound):
                await bells.ring([Bell("a")])
            await bells.close()
    assert proxy.bells == Bells()


async def _take_all(server: LocalSqs) -> Counter[str]:
    sqs, found = Sqs(server.plan.url), Counter[str]()
    try:
        while messages := await sqs.receive(server.plan.url, wait=1):
            found.update(json.loads(message.body)["queue"] for message in messages)
            await sqs.delete(server.plan.url, [message.receipt for message in messages])
    finally:
        await sqs.close()
    return found


def test_what_breaks_sqs_needs_sqs(database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo", "--stop-sqs", "5"],
        env={**os.environ, "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "give --sqs too" in done.stderr
