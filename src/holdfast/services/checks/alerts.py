"""Can people be told? The webhook's form is checked without using it; `--send-test` posts to it."""

from pydantic import SecretStr

from holdfast.core.findings import Finding, Verdict
from holdfast.errors import ConfigurationError
from holdfast.notify.addresses import check_webhook
from holdfast.notify.channel import Again, Broken, Delivered
from holdfast.notify.slack import SlackChannel

_ID, _COMPONENT = "alerts.slack", "Slack"
_CODE = "incidents are told once at their start and end"


async def check_slack(webhook: SecretStr | None, *, send_test: bool) -> Finding:
    """Whether the webhook looks like one; with `send_test` whether Slack takes a post."""
    if webhook is None:
        found = "not in use: incidents are logged (SLACK_WEBHOOK_URL)"
        if send_test:
            found, fix = "--send-test has nothing to post to", "set SLACK_WEBHOOK_URL"
            return Finding(_ID, _COMPONENT, Verdict.FAIL, found, _CODE, fix)
        return Finding(_ID, _COMPONENT, Verdict.PASS, found, _CODE)
    try:
        check_webhook(webhook.get_secret_value())
    except ConfigurationError as error:
        return Finding(_ID, _COMPONENT, Verdict.FAIL, str(error), _CODE, "copy the whole address from Slack")
    if not send_test:
        return Finding(_ID, _COMPONENT, Verdict.PASS, "the webhook has the right form (--send-test posts to it)", _CODE)
    channel = SlackChannel(webhook)
    try:
        outcome = await channel.send("test", {"title": "Holdfast: a test. Incidents will be told here."})
    finally:
        await channel.close()
    match outcome:
        case Delivered():
            return Finding(_ID, _COMPONENT, Verdict.PASS, "a test was posted", _CODE)
        case Again(why):
            return Finding(
                _ID, _COMPONENT, Verdict.FAIL, f"the test was not taken: {why}", _CODE, "try again in a minute"
            )
        case Broken(why):
            fix = "make a new webhook at api.slack.com/apps (Incoming Webhooks), and set SLACK_WEBHOOK_URL to it"
            return Finding(_ID, _COMPONENT, Verdict.FAIL, f"the test was not taken: {why}", _CODE, fix)
