"""The IAM policies that using queues needs: by what a queue is, to paste where AWS refuses; and by who uses it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from holdfast.sqs.address import region_of

_ALWAYS = ("sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags")
#: What is done with a queue, by its role.
ACTIONS: Mapping[str, Sequence[str]] = {
    "bells": (*_ALWAYS, "sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
    "watched": _ALWAYS,
    "dead letters": (
        *_ALWAYS,
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:ListMessageMoveTasks",
    ),
}


def statement(url: str, role: str) -> str:
    """The policy as JSON, in one line.

    >>> statement("https://sqs.eu-west-1.amazonaws.com/123456789012/mail", "watched")[:75]
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["sqs'
    """
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": list(ACTIONS[role]), "Resource": _arn(url)}],
        }
    )


@dataclass(frozen=True)
class Grant:
    """What a role may do with one of the two queues."""

    of_dead_letters: bool
    actions: Sequence[str]


#: Who does what with a queue for bells and its dead-letter queue. The API looks how many bells lie unheard: who may not
#: is bound by its pace alone, and with all workers away that is many thousands an hour.
ROLES: Mapping[str, Sequence[Grant]] = {
    "api": (Grant(False, ("sqs:SendMessage", "sqs:GetQueueAttributes")),),
    "worker": (Grant(False, ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")),),
    "monitor": (
        Grant(False, ("sqs:SendMessage", "sqs:GetQueueAttributes", "sqs:ListQueueTags")),
        Grant(
            True,
            (
                "sqs:GetQueueUrl",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
                "sqs:ChangeMessageVisibility",
                "sqs:ListMessageMoveTasks",
            ),
        ),
    ),
    "redriver": (
        Grant(False, ("sqs:SendMessage",)),
        Grant(
            True,
            (
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:StartMessageMoveTask",
                "sqs:ListMessageMoveTasks",
                "sqs:CancelMessageMoveTask",
            ),
        ),
    ),
}


def role_policy(role: str, arn: str, dead_arn: str) -> dict[str, Any]:
    """The policy that a role needs, as IAM reads it.

    >>> role_policy("api", "arn:aws:sqs:eu-west-1:1:bells", "")["Statement"][0]["Action"]
    ['sqs:SendMessage', 'sqs:GetQueueAttributes']
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": list(grant.actions),
                "Resource": dead_arn if grant.of_dead_letters else arn,
            }
            for grant in ROLES[role]
        ],
    }


def arn_in(region: str | None, name: str) -> str:
    """The ARN of a queue that is not there yet: what is not known of it stays to be filled in."""
    return f"arn:{_partition(region or '')}:sqs:{region or 'REGION'}:ACCOUNT:{name}"


def _arn(url: str) -> str:
    """The queue's ARN, as its URL tells it; a * where that does not tell."""
    parts = urlsplit(url)
    path = parts.path.strip("/").split("/")
    region = region_of(parts.hostname or "") or "*"
    account, name = path if len(path) == 2 else ("*", path[-1])
    return f"arn:{_partition(region)}:sqs:{region}:{account}:{name}"


def _partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
