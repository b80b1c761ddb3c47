"""Slack, through an incoming webhook.

Slack's own client does not retry a 5xx, breaks on a fractional Retry-After and writes the webhook's URL, which is a
secret, into its log; so the few lines that are needed are here. Slack answers in words (docs.slack.dev, "Sending
messages using incoming webhooks"): some name a channel or webhook that will never work again, others can be tried
later.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from holdfast.notify.addresses import check_webhook
from holdfast.notify.channel import Again, Broken, Delivered, Outcome
from holdfast.notify.posting import Poster, seconds, word

#: Slack's limits, in characters; and seconds that a post may take.
MOST_HEADER, MOST_TEXT, MOST_LINES = 150, 3000, 10
DEADLINE = 10.0

_EMOJI = {
    "first": ":rotating_light:", "worse": ":rotating_light:", "repeat": ":rotating_light:",
    "resolved": ":white_check_mark:",
}  # fmt: skip


def render(reason: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The message as Block Kit, with a text for notifications and screen readers.

    content: {title, lines: [[name, value]], command, runbook, dashboard}, the last two addresses of ours. Everything
    else is shown as plain text or escaped, so that nothing from a job can mention people or make a link.
    """
    title = str(content.get("title", ""))
    lines: Sequence[Sequence[str]] = content.get("lines") or []
    command = content.get("command")
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(title, MOST_HEADER), "emoji": False}}
    ]
    if lines:
        text = "\n".join(f"*{_escape(name)}:* {_escape(value)}" for name, value in lines[:MOST_LINES])
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, MOST_TEXT), "verbatim": True}})
    if command:
        text = f"```{_escape(str(command))}```"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, MOST_TEXT), "verbatim": True}})
    what_to_do = None if reason == "resolved" else content.get("runbook")
    leads = ((content.get("dashboard"), "Dashboard"), (what_to_do, "What to do"))
    if any(address for address, _ in leads):
        text = " · ".join(f"<{_escape(str(address))}|{name}>" for address, name in leads if address)
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}})
    mark = _EMOJI.get(reason, "")
    return {"text": f"{mark} {_escape(_cut(title, MOST_TEXT))}".strip(), "blocks": blocks}


class SlackChannel:
    """Posts to one webhook."""

    name = "slack"
    takes_digests = True
    pace = 1.1

    def __init__(self, webhook: SecretStr, *, deadline: float = DEADLINE) -> None:
        check_webhook(webhook.get_secret_value())
        self._webhook = webhook
        self._poster = Poster("Slack", classify, deadline=deadline)

    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome:
        """Post it once, and say what Slack made of it."""
        body = json.dumps(render(reason, content)).encode()
        return await self._poster.post(self._webhook.get_secret_value(), body)

    async def close(self) -> None:
        await self._poster.close()


def classify(status: int, body: str, retry_after: str | None) -> Outcome:
    """What an answer means.

    >>> classify(404, "no_service", None)
    Broken(why='Slack refuses: 404 no_service')
    """
    if status == 200:
        return Delivered()
    said = word(body)
    if status == 429:
        return Again("Slack asks for fewer messages (429)", seconds(retry_after) or 1.0)
    if status >= 500 or status == 408:
        return Again(f"Slack answers {status} {said}".strip(), seconds(retry_after))
    return Broken(f"Slack refuses: {status} {said}".strip())


def _escape(text: str) -> str:
    """As Slack asks for (docs.slack.dev, "Formatting text"): nothing is special without its three characters."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
