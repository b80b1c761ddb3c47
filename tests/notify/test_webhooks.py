"""A webhook of one's own, and PagerDuty: what is sent, signed, and made of each answer, over real HTTP."""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from holdfast.core import telling
from holdfast.errors import ConfigurationError
from holdfast.notify.channel import Again, Broken, Delivered, Outcome
from holdfast.notify.pagerduty import PagerDutyChannel, render
from holdfast.notify.several import Addresses, make_channels
from holdfast.notify.webhook import WebhookChannel, sign
from tests.notify.slack_server import SlackServer

CONTENT: dict[str, Any] = {
    "title": "3 jobs died", "lines": [["what", "send"]], "command": "holdfast x",
    "incident": "i-1", "notification": "n-1",
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[SlackServer]:
    made = SlackServer()
    yield made
    made.close()


async def post(server: SlackServer, secret: str | None = None) -> Outcome:
    channel = WebhookChannel(
        SecretStr(server.webhook),
        None if secret is None else SecretStr(secret),
        deadline=2.0,
        now=lambda: 1_700_000_000.5,
    )
    try:
        return await channel.send("first", CONTENT)
    finally:
        await channel.close()


async def test_a_webhook_gets_the_incident_as_json_with_a_signature_over_what_it_got(server: SlackServer) -> None:
    assert await post(server, "of us two") == Delivered()
    (posted,) = server.posts
    assert posted == {"reason": "first", **CONTENT}
    (headers,), (body,) = server.headers, server.bodies
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("n-1", "1700000000")
    digest = hmac.new(b"of us two", b"n-1.1700000000." + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_a_secret_as_standard_webhooks_writes_it_is_its_bytes() -> None:
    """The example of https://github.com/standard-webhooks/standard-webhooks, spec, "Signature scheme"."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signed = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_without_a_secret_nothing_is_signed(server: SlackServer) -> None:
    assert await post(server) == Delivered()
    assert "webhook-signature" not in server.headers[0]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((204, ""), Delivered()),
        ((429, "", {"Retry-After": "2.5"}), Again("the webhook answers 429", 2.5)),
        ((503, ""), Again("the webhook answers 503")),
        ((401, "who are you?"), Broken("the webhook refuses: 401 who are you")),
        ((302, "", {"Location": "http://127.0.0.1:1/"}), Broken("the webhook refuses: 302")),
    ],
)
async def test_each_answer_has_its_meaning(server: SlackServer, answer: Any, outcome: Outcome) -> None:
    server.answers(*answer)
    assert await post(server) == outcome


async def test_pagerduty_gets_one_alert_for_an_incident_and_its_end(server: SlackServer) -> None:
    server.answers(202, '{"status": "success"}')
    channel = PagerDutyChannel(SecretStr("key-of-pd"), url=server.webhook, deadline=2.0)
    for reason in ("first", "worse", "resolved"):
        assert await channel.send(reason, CONTENT) == Delivered()
    await channel.close()
    assert [each["event_action"] for each in server.posts] == ["trigger", "trigger", "resolve"]
    assert {each["dedup_key"] for each in server.posts} == {"i-1"}
    assert server.posts[0]["payload"]["custom_details"] == {"what": "send", "command": "holdfast x"}


def test_pagerduty_s_limits_are_kept() -> None:
    event = render("k", "first", {"title": "t" * 5000, "incident": "i" * 500})
    assert len(event["payload"]["summary"]) == 1024
    assert len(event["dedup_key"]) == 255


async def test_a_server_that_is_away_is_tried_again_and_no_text_holds_its_address(server: SlackServer) -> None:
    server.drops()
    outcome = await post(server)
    assert isinstance(outcome, Again)
    assert "services" not in outcome.why


def test_what_is_set_is_made_and_nothing_shows_it() -> None:
    addresses = Addresses(slack="https://hooks.slack.com/services/T/B/s3cret", pagerduty="s3cret")
    assert addresses.channels == ["slack", "pagerduty"]
    assert "s3cret" not in repr(addresses)
    assert list(make_channels(addresses)) == ["slack", "pagerduty"]
    assert list(make_channels(Addresses())) == ["log"]
    with pytest.raises(ConfigurationError, match="HOLDFAST_WEBHOOK_URL") as refused:
        make_channels(Addresses(webhook="ftp://x/s3cret"))
    assert "s3cret" not in str(refused.value)


def test_there_is_a_sample_of_each_kind_and_each_says_that_it_is_a_test() -> None:
    samples = telling.samples()
    assert {*samples} == {*telling.SAMPLES, "resolved"}
    assert all(content["title"].startswith("(Test) ") for _, content in samples.values())
