"""The IAM policy that each part of a queue's use needs: what to paste where AWS refuses."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

_ALWAYS = ("sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags")
#: What is done with a queue, by its role.
ACTIONS: Mapping[str, Sequence[str]] = {
    "bells": (*_ALWAYS, "sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
    "watched": _ALWAYS,
    "dead letters": (*_ALWAYS, "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"),
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


def _arn(url: str) -> str:
    """The queue's ARN, as its URL tells it; a * where that does not tell."""
    parts = urlsplit(url)
    labels, path = (parts.hostname or "").split("."), parts.path.strip("/").split("/")
    region = labels[1] if len(labels) > 2 and labels[0] == "sqs" else "*"
    account, name = path if len(path) == 2 else ("*", path[-1])
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    return f"arn:{partition}:sqs:{region}:{account}:{name}"
