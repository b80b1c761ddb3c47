"""Slack: what is sent, and what becomes of each way in which it can answer, over real HTTP."""

import asyncio
import json

import pytest
from pydantic import SecretStr

from holdfast.errors import ConfigurationError
from holdfast.notify import pagerduty
from holdfast.notify.addresses import check_webhook
from holdfast.notify.channel import Again, Broken, Delivered, Outcome
from holdfast.notify.runbook import with_dashboard, with_runbook
from holdfast.notify.several import Addresses, make_channels
from holdfast.notify.slack import SlackChannel, classify, render
from tests.notify.slack_server import SlackServer

CONTENT = {"title": "3 jobs died", "lines": [["what", "send <!channel>"], ["new", "3 & more"]], "command": "holdfast x"}


async def send(server: SlackServer, deadline: float = 5.0) -> Outcome:
    channel = SlackChannel(SecretStr(server.webhook), deadline=deadline)
    try:
        return await channel.send("first", CONTENT)
    finally:
        await channel.close()


async def test_a_message_is_posted_as_blocks_with_a_text_beside(slack: SlackServer) -> None:
    assert await send(slack) == Delivered()
    (posted,) = slack.posts
    assert posted["text"] == ":rotating_light: 3 jobs died"
    assert [block["type"] for block in posted["blocks"]] == ["header", "section", "section"]
    assert posted["blocks"][1]["text"]["text"] == "*what:* send &lt;!channel&gt;\n*new:* 3 &amp; more"
    assert posted["blocks"][2]["text"]["text"] == "```holdfast x```"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((429, "ratelimited", {"Retry-After": "7"}), Again("Slack asks for fewer messages (429)", 7.0)),
        ((429, "ratelimited", {"Retry-After": "1.5"}), Again("Slack asks for fewer messages (429)", 1.5)),
        ((429, "ratelimited", {}), Again("Slack asks for fewer messages (429)", 1.0)),
        ((500, "rollup_error", {}), Again("Slack answers 500 rollup_error")),
        ((503, "", {"Retry-After": "9"}), Again("Slack answers 503", 9.0)),
        ((404, "no_service", {}), Broken("Slack refuses: 404 no_service")),
        ((410, "channel_is_archived", {}), Broken("Slack refuses: 410 channel_is_archived")),
        ((400, "invalid_payload", {}), Broken("Slack refuses: 400 invalid_payload")),
        ((403, "<html>forbidden</html>", {}), Broken("Slack refuses: 403 htmlforbiddenhtml")),
        ((302, "", {"Location": "http://127.0.0.1:1/"}), Broken("Slack refuses: 302")),
    ],
)
async def test_each_answer_has_its_meaning(
    slack: SlackServer, answer: tuple[int, str, dict[str, str]], outcome: Outcome
) -> None:
    slack.answers(*answer)
    assert await send(slack) == outcome


async def test_a_dropped_connection_is_tried_again(slack: SlackServer) -> None:
    slack.drops()
    outcome = await send(slack)
    assert isinstance(outcome, Again)
    assert "services" not in outcome.why


async def test_a_hanging_server_is_given_up(slack: SlackServer) -> None:
    slack.hangs()
    outcome = await send(slack, deadline=0.3)
    assert outcome == Again("Slack did not answer within 0.3 s")


async def test_a_server_that_answers_drop_by_drop_is_given_up(slack: SlackServer) -> None:
    slack.drips()
    assert await send(slack, deadline=0.5) == Again("Slack did not answer within 0.5 s")


async def test_an_answer_without_end_is_read_no_further_than_a_word(slack: SlackServer) -> None:
    slack.answers(500, "x" * 20_000_000)
    assert await send(slack) == Again(f"Slack answers 500 {'x' * 60}")


@pytest.mark.parametrize("text", ["-1", "0", "soon", "nan", "inf"])
def test_a_retry_after_that_is_none_is_not_believed(text: str) -> None:
    assert classify(429, "", text) == Again("Slack asks for fewer messages (429)", 1.0)


def test_slack_s_limits_are_kept() -> None:
    content = {"title": "t" * 9000, "lines": [["a" * 500, "b" * 2000]] * 40, "command": "c" * 9000}
    message = render("first", content)
    assert len(message["blocks"][0]["text"]["text"]) <= 150
    assert all(len(block["text"]["text"]) <= 3010 for block in message["blocks"])
    assert len(json.dumps(message)) < 13_000


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.slack.com/services/T/B/x",
        "http://hooks.slack.com/services/T/B/x",
        "https://hooks.slack.com",
        "file:///x",
        "https://[hooks/services/T/B/x",
        "https://hooks.slack.com:99x/services/T/B/x",
        "https://hooks.slack.com/services/T/B/x\n",
        "https://hooks.slack.com/services/T/B/x \x01",
    ],
)
def test_what_cannot_be_a_webhook_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"SLACK_WEBHOOK_URL") as refused:
        check_webhook(url)
    assert "T/B/x" not in str(refused.value)


@pytest.mark.parametrize("url", ["https://hooks.slack.com/services/T/B/x", "https://chat.example.org/hooks/x"])
def test_a_webhook_is_taken(url: str) -> None:
    check_webhook(url)


def test_an_alert_links_to_what_to_do_about_it_and_its_end_does_not() -> None:
    content = with_runbook("https://docs.example.com/runbook/", {**CONTENT, "place": "dead_letters"})
    told = json.dumps(render("first", content))
    assert "<https://docs.example.com/runbook/#dead_letters|What to do>" in told
    assert "What to do" not in json.dumps(render("resolved", content))
    assert "What to do" not in json.dumps(render("first", CONTENT))


async def test_an_alert_links_to_its_incident_on_the_dashboard_and_a_digest_to_all_of_them(slack: SlackServer) -> None:
    (channel,) = make_channels(Addresses(slack=slack.webhook, url="https://jobs.example.org/")).values()
    assert await channel.send("resolved", {**CONTENT, "incident": "0197a3c1"}) == Delivered()
    assert await channel.send("first", CONTENT) == Delivered()
    await channel.close()
    one, many = map(json.dumps, slack.posts)
    assert "<https://jobs.example.org/dashboard/incidents/0197a3c1|Dashboard>" in one
    assert "<https://jobs.example.org/dashboard/incidents|Dashboard>" in many
    event = pagerduty.render("key", "first", with_dashboard("https://jobs.example.org", {"incident": "7"}))
    assert event["links"] == [{"href": "https://jobs.example.org/dashboard/incidents/7", "text": "Dashboard"}]


def test_every_channel_leads_to_the_runbook_where_it_is_served(caplog: pytest.LogCaptureFixture) -> None:
    told = {"title": "it hangs", "place": "database", "incident": "1"}
    (log,) = make_channels(Addresses(runbook="https://docs.example.com/runbook/")).values()
    asyncio.run(log.send("first", told))
    assert "it hangs (https://docs.example.com/runbook/#database)" in caplog.text
    event = pagerduty.render("key", "first", with_runbook("https://docs.example.com/runbook/", told))
    assert event["links"] == [{"href": "https://docs.example.com/runbook/#database", "text": "What to do"}]
