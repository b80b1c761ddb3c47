"""The IAM policy that is told where AWS refuses."""

import json

import pytest

from holdfast.sqs.policy import ACTIONS, statement


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/mail", "arn:aws:sqs:eu-west-1:123456789012:mail"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/mail.fifo", "arn:aws-cn:sqs:cn-north-1:1:mail.fifo"),
        ("http://127.0.0.1:9324/000/mail", "arn:aws:sqs:*:000:mail"),
    ],
)
def test_it_names_the_queue_and_what_is_done_with_it(url: str, arn: str) -> None:
    for role, actions in ACTIONS.items():
        (only,) = json.loads(statement(url, role))["Statement"]
        assert (only["Effect"], only["Action"], only["Resource"]) == ("Allow", list(actions), arn)


def test_who_only_watches_may_take_nothing() -> None:
    assert not {"sqs:SendMessage", "sqs:DeleteMessage", "sqs:ReceiveMessage"} & set(ACTIONS["watched"])
