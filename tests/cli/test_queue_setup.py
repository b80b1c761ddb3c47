"""`holdfast queues create` and `adopt`: what is made, what is only shown, and what is never taken over."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from holdfast.sqs.client import Sqs
from tests.cli.command import Answer
from tests.cli.command import holdfast_here as holdfast
from tests.sqs.local import LocalSqs

DAY = 86400


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


@pytest.fixture
def name() -> str:
    return f"made-{uuid4().hex[:8]}"


async def queues(folder: Path, *args: str, **environment: str) -> Answer:
    return await asyncio.to_thread(holdfast, "queues", *args, cwd=folder, **environment)


async def test_a_queue_is_made_with_its_dead_letter_queue_and_may_be_made_again(
    client: Sqs, sqs: LocalSqs, name: str, tmp_path: Path
) -> None:
    first = await queues(tmp_path, "create", name, "--endpoint-url", sqs.endpoint)
    answer = await queues(tmp_path, "create", name, "--endpoint-url", sqs.endpoint)
    assert (first, answer.code, answer.err) == (answer, 0, "")
    url = sqs.url(name)
    assert answer.out.splitlines()[0] == f"HOLDFAST_SQS_QUEUE_URL={url}"
    assert await client.tags(url) == {"holdfast": "bell"}
    made = await client.attributes(url)
    assert (made.retention, made.visibility_timeout, made.max_receive_count) == (DAY, 30, 100)
    assert made.dead_letter_arn is not None
    assert made.dead_letter_arn.endswith(f":{name}-dlq")
    dead = await client.attributes(sqs.url(f"{name}-dlq"))
    assert dead.retention == 14 * DAY > made.retention


async def test_each_role_gets_a_policy_of_what_it_does_and_no_more(sqs: LocalSqs, name: str, tmp_path: Path) -> None:
    answer = await queues(tmp_path, "create", name, "--endpoint-url", sqs.endpoint, "--json")
    found: Any = json.loads(answer.out)["queue"]
    allowed = {
        role: {
            (action.removeprefix("sqs:"), statement["Resource"].endswith("-dlq"))
            for statement in policy["Statement"]
            for action in statement["Action"]
        }
        for role, policy in found["policies"].items()
    }
    assert allowed["api"] == {("SendMessage", False), ("GetQueueAttributes", False)}, "it looks how many lie unheard"
    assert {("ReceiveMessage", False), ("DeleteMessage", False)} <= allowed["worker"]
    assert ("SendMessage", False) not in allowed["worker"]
    assert {("GetQueueAttributes", True), ("ReceiveMessage", True), ("ChangeMessageVisibility", True)} <= (
        allowed["monitor"]
    )
    assert not {("DeleteMessage", dead) for dead in (True, False)} & allowed["monitor"]
    assert {("SendMessage", False), ("DeleteMessage", True)} <= allowed["redriver"]


async def test_a_dry_run_shows_calls_that_the_aws_cli_takes_and_makes_none(name: str, tmp_path: Path) -> None:
    answer = await queues(
        tmp_path, "create", name, "--dry-run", "--region", "eu-west-1", AWS_ENDPOINT_URL="http://127.0.0.1:1"
    )
    assert answer.code == 0
    calls = [shlex.split(line) for line in answer.out.splitlines() if line.startswith("aws sqs ")]
    assert [call[2] for call in calls] == ["create-queue", "create-queue", "set-queue-attributes"]
    dead, bells, allowed = [json.loads(call[4]) for call in calls]
    assert (dead["QueueName"], dead["Attributes"]["MessageRetentionPeriod"]) == (f"{name}-dlq", str(14 * DAY))
    policy = json.loads(bells["Attributes"]["RedrivePolicy"])
    assert policy["deadLetterTargetArn"] == f"arn:aws:sqs:eu-west-1:ACCOUNT:{name}-dlq"
    assert bells["tags"] == {"holdfast": "bell"}
    assert allowed["QueueUrl"] == f"https://sqs.eu-west-1.amazonaws.com/ACCOUNT/{name}-dlq"
    assert "# the IAM policy of the redriver" in answer.out


async def test_a_queue_of_somebody_else_s_is_never_taken(client: Sqs, sqs: LocalSqs, name: str, tmp_path: Path) -> None:
    url = await client.create(name, {}, {"team": "orders"})
    answer = await queues(tmp_path, "create", name, "--endpoint-url", sqs.endpoint)
    assert answer.code == 2
    assert f"there is a queue '{name}' already, which is not tagged holdfast=bell" in answer.err
    assert await client.tags(url) == {"team": "orders"}


async def test_an_empty_queue_can_be_adopted_and_one_with_messages_cannot(
    client: Sqs, sqs: LocalSqs, name: str, tmp_path: Path
) -> None:
    url = await client.create(name, {}, {})
    await client.send(url, ["an order"])
    refused = await queues(tmp_path, "adopt", url)
    assert (refused.code, f"1 messages are in '{name}'" in refused.err) == (2, True)
    (message,) = await client.receive(url)
    await client.delete(url, [message.receipt])
    assert (await queues(tmp_path, "adopt", url)).code == 0
    assert await client.tags(url) == {"holdfast": "bell"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["orders.fifo"], "names the FIFO queue 'orders.fifo'"),
        (["not a name"], "cannot be a queue's name in SQS"),
        (["x", "--dead-letters", "x"], "its own dead-letter queue"),
        (["x", "--endpoint-url", "http://127.0.0.1:1"], "SQS does not answer for queue 'x'"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_reason(given: list[str], said: str, tmp_path: Path) -> None:
    answer = await queues(tmp_path, "create", *given)
    assert answer.code in (1, 2)
    assert said in " ".join(answer.err.split())


async def test_without_a_region_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    answer = await queues(tmp_path, "create", "x", AWS_CONFIG_FILE=str(tmp_path / "none"))
    assert "no AWS region is known: set AWS_REGION, or give --region" in " ".join(answer.err.split())
