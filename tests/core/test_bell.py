"""A bell is known from everything else."""

import json

import pytest

from holdfast.core.bell import make_bell, read_bell


@pytest.mark.parametrize("queue", ["default", "mäil", 'a"b', "x" * 200, "\x01" * 200, "\U0001f514" * 200, "\uffff"])
def test_a_bell_says_its_queue_in_characters_that_sqs_takes(queue: str) -> None:
    assert read_bell(make_bell(queue)) == queue
    assert make_bell(queue).isascii()
    assert make_bell(queue).isprintable()


@pytest.mark.parametrize(
    "body",
    ["", "mail", "{}", "[]", "null", json.dumps({"holdfast": "bell"}), json.dumps({"holdfast": "bell", "queue": 3}),
     json.dumps({"queue": "mail"}), json.dumps({"holdfast": "bell", "queue": "x" * 4000}), "[" * 50_000, "[" * 1000],
    ids=lambda body: body[:30],
)  # fmt: skip
def test_what_is_no_bell_is_not_taken_for_one(body: str) -> None:
    assert read_bell(body) is None
