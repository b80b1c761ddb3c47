"""A bell is known from everything else."""

import json

import pytest

from holdfast.core.bell import make_bell, read_bell


@pytest.mark.parametrize("queue", ["default", "mäil", 'a"b', "x" * 200])
def test_a_bell_says_its_queue(queue: str) -> None:
    assert read_bell(make_bell(queue)) == queue


@pytest.mark.parametrize(
    "body",
    ["", "mail", "{}", "[]", "null", json.dumps({"holdfast": "bell"}), json.dumps({"holdfast": "bell", "queue": 3}),
     json.dumps({"queue": "mail"}), json.dumps({"holdfast": "bell", "queue": "x" * 2000}), "[" * 50_000],
    ids=lambda body: body[:30],
)  # fmt: skip
def test_what_is_no_bell_is_not_taken_for_one(body: str) -> None:
    assert read_bell(body) is None
