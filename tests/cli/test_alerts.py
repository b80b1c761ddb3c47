"""`holdfast alerts test`: one of each kind over each channel, and what became of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.core import telling
from tests.cli.command import holdfast_here as holdfast
from tests.notify.slack_server import SlackServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    monkeypatch.setattr("holdfast.notify.slack.SlackChannel.pace", 0.0)
    made = SlackServer()
    yield made
    made.close()


def test_one_of_each_kind_is_sent_over_each_channel(server: SlackServer, tmp_path: Path) -> None:
    done = holdfast(
        "alerts", "test", "--json", cwd=tmp_path, SLACK_WEBHOOK_URL=server.webhook, HOLDFAST_PAGERDUTY_KEY="k",
        HOLDFAST_PAGERDUTY_URL=server.webhook,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    sent = json.loads(done.out)["sent"]
    kinds = {*telling.SAMPLES, "resolved"}
    assert {(each["channel"], each["kind"]) for each in sent} == {(c, k) for c in ("slack", "pagerduty") for k in kinds}
    assert len(server.posts) == 2 * len(kinds)


def test_a_channel_that_refuses_is_told_with_its_answer(server: SlackServer, tmp_path: Path) -> None:
    server.answers(404, "no_service")
    done = holdfast("alerts", "test", cwd=tmp_path, SLACK_WEBHOOK_URL=server.webhook)
    assert done.code == 1
    assert done.out.count("Slack refuses: 404 no_service") == 1, "the others would be refused too"


def test_one_kind_alone(server: SlackServer, tmp_path: Path) -> None:
    assert holdfast("alerts", "test", "--kind", "blind", cwd=tmp_path, SLACK_WEBHOOK_URL=server.webhook).code == 0
    assert len(server.posts) == 1
    unknown = holdfast("alerts", "test", "--kind", "blnd", cwd=tmp_path, SLACK_WEBHOOK_URL=server.webhook)
    assert "letters_expiring" in unknown.err
