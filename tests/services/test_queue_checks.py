"""What `verify` says of queues of SQS, against a real server."""

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from holdfast import Settings
from holdfast.cli.options import sqs_queues
from holdfast.core.findings import Finding, Verdict
from holdfast.services.checks.queues import check_queues
from holdfast.services.sqs_watch import WatchedQueue
from holdfast.sqs.client import Sqs, queue_name
from tests.sqs.local import LocalSqs

DAY = 86400


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


async def queue(client: Sqs, **attributes: str) -> str:
    return await client.create(f"checked-{uuid4().hex[:8]}", attributes, {})


async def with_dead_letters(client: Sqs, *, kept: int, receives: int = 5, **attributes: str) -> str:
    dead = await queue(client, MessageRetentionPeriod=str(kept))
    policy = {"deadLetterTargetArn": (await client.attributes(dead)).arn, "maxReceiveCount": str(receives)}
    return await queue(client, RedrivePolicy=json.dumps(policy), **attributes)


async def found(url: str, role: str = "watched") -> dict[str, Finding]:
    return {finding.id: finding for finding in await check_queues([WatchedQueue(url, role)])}


async def test_a_queue_as_it_should_be_passes_with_its_policy_retention_and_visibility(sqs: LocalSqs) -> None:
    lines = await found(sqs.url("holdfast-bells"), "bells")
    assert {line.verdict for line in lines.values()} == {Verdict.PASS}
    assert lines["sqs.bells.answers"].code == "rung for idle workers; no job depends on it"
    assert "keeps letters 14 d, holdfast-bells 1 d; after 100 receives" in lines["sqs.bells.redrive"].found
    assert lines["sqs.bells.visibility"].found == "holdfast-bells hides what was received for 30 s"


async def test_a_queue_of_the_team_s_own_is_said_to_be_watched_and_never_rung(client: Sqs) -> None:
    url = await queue(client)
    assert (await found(url))["sqs.watched.answers"].found == f"{queue_name(url)} answers; it is watched, never rung"


async def test_a_queue_without_dead_letters_or_with_hasty_ones_warns(client: Sqs) -> None:
    lines = await found(await queue(client))
    assert lines["sqs.watched.redrive"].verdict is Verdict.WARN
    lines = await found(await with_dead_letters(client, kept=14 * DAY, receives=1))
    assert lines["sqs.watched.redrive"].found == "maxReceiveCount is 1"


async def test_letters_that_would_expire_unread_fail(client: Sqs) -> None:
    line = (await found(await with_dead_letters(client, kept=4 * DAY)))["sqs.watched.redrive"]
    assert line.verdict is Verdict.FAIL
    assert "MessageRetentionPeriod" in line.fix


async def test_a_visibility_too_short_to_do_anything_warns(client: Sqs) -> None:
    lines = await found(await queue(client, VisibilityTimeout="2"))
    assert lines["sqs.watched.visibility"].verdict is Verdict.WARN
    assert "VisibilityTimeout" in lines["sqs.watched.visibility"].fix


async def test_a_queue_that_is_not_there_fails_with_its_name_and_without_its_account(sqs: LocalSqs) -> None:
    lines = await found(sqs.url("nothing"))
    assert [line.verdict for line in lines.values()] == [Verdict.FAIL]
    assert "'nothing'" in lines["sqs.watched.answers"].found
    assert "000000000000" not in str(lines)


def test_a_tagged_queue_of_the_team_s_own_is_one_for_bells() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
    settings = Settings.model_validate({"sqs_queue_url": url, "watched_queue_url": url})
    assert sqs_queues(settings) == [WatchedQueue(url, "bells")]
