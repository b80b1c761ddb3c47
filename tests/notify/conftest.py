"""Slack for the tests of what tells people."""

from collections.abc import Iterator

import pytest

from tests.notify.slack_server import SlackServer


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    made = SlackServer()
    yield made
    made.close()
