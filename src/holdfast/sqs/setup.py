"""Setting up a queue for bells: the calls, as data that can be shown before they are made, and making them.

The dead-letter queue keeps its messages for 14 days, SQS's most, and the queue itself keeps bells for one: in standard
queues a message's age counts from when it was first sent, so that a dead letter has 13 days to be read. Receives wait
20 s unless they say otherwise. Nothing here takes over a queue that somebody else made.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.errors import ConfigurationError, QueueNotFound, QueueRefused
from holdfast.sqs.client import QueueAttributes, Sqs, queue_name

DAY = 86400
#: The tag that says that a queue is for bells; without it none is rung.
TAG, BELL, DEAD = "holdfast", "bell", "dead-letters"
DEAD_LETTERS: Mapping[str, str] = {"MessageRetentionPeriod": str(14 * DAY)}
BELLS: Mapping[str, str] = {
    "MessageRetentionPeriod": str(DAY),
    "ReceiveMessageWaitTimeSeconds": "20",
    "VisibilityTimeout": "30",
}
#: Receives after which a bell is a dead letter: more than workers that fill up at once may hand it back.
MOST_RECEIVES = 100


@dataclass(frozen=True)
class QueueSetup:
    """A queue for bells and its dead-letter queue, by name."""

    name: str
    dead_name: str

    def calls(self, arn: str, dead_arn: str, dead_url: str) -> list[tuple[str, dict[str, Any]]]:
        """The calls that make them, in order, as commands of the AWS CLI below `aws sqs`, with their arguments."""
        policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": str(MOST_RECEIVES)})
        allow = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn]})
        return [
            ("create-queue", {"QueueName": self.dead_name, "Attributes": dict(DEAD_LETTERS), "tags": {TAG: DEAD}}),
            (
                "create-queue",
                {"QueueName": self.name, "Attributes": {**BELLS, "RedrivePolicy": policy}, "tags": {TAG: BELL}},
            ),
            ("set-queue-attributes", {"QueueUrl": dead_url, "Attributes": {"RedriveAllowPolicy": allow}}),
        ]


async def create(sqs: Sqs, setup: QueueSetup) -> tuple[str, str]:
    """Make both queues, or find those that this made before; their URLs.

    Raises `ConfigurationError` where a queue of that name is somebody else's, `QueueError` where SQS refuses.
    """
    await _refuse_others(sqs, setup.name, BELL)
    await _refuse_others(sqs, setup.dead_name, DEAD)
    dead = await sqs.create(setup.dead_name, DEAD_LETTERS, {TAG: DEAD})
    dead_arn = (await sqs.attributes(dead)).arn
    (_, wanted), (_, allowed) = setup.calls(dead_arn.removesuffix(setup.dead_name) + setup.name, dead_arn, dead)[1:]
    url = await sqs.create(setup.name, wanted["Attributes"], wanted["tags"])
    await sqs.set_attributes(dead, allowed["Attributes"])
    return url, dead


async def adopt(sqs: Sqs, url: str) -> QueueAttributes:
    """Tag a queue that is there as one for bells: a standard one, in which nothing lies. What SQS says of it."""
    found = await sqs.attributes(url)
    lying = found.visible + found.in_flight + found.delayed
    if found.is_fifo:
        raise ConfigurationError(f"{queue_name(url)!r} is FIFO, which a queue for bells cannot be")
    if lying:
        raise ConfigurationError(
            f"{lying} messages are in {queue_name(url)!r}: a queue for bells is Holdfast's alone; empty it, or take"
            " another"
        )
    await sqs.tag(url, {TAG: BELL})
    return found


async def _refuse_others(sqs: Sqs, name: str, tag: str) -> None:
    try:
        url = await sqs.url_named(name)
        found = (await sqs.tags(url)).get(TAG)
    except QueueNotFound:
        return
    except QueueRefused as error:
        raise QueueRefused(f"{error}: whether {name!r} is there already cannot be seen") from error
    if found != tag:
        raise ConfigurationError(
            f"there is a queue {name!r} already, which is not tagged {TAG}={tag}: somebody else's; take another name"
            + (f", or if nobody uses it: holdfast queues adopt {url}" if tag == BELL else " (--dead-letters)")
        )
