"""Slack, through an incoming webhook.

Slack's own client does not retry a 5xx, breaks on a fractional Retry-After and writes the webhook's URL, which is a
secret, into its log; so the few lines that are needed are here. Slack answers in words (docs.slack.dev, "Sending
messages using incoming webhooks"): some name a channel or webhook that will never work again, others can be tried
later.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from pydantic import SecretStr

from holdfast.notify.addresses import check_webhook, runbook_of
from holdfast.notify.channel import Again, Broken, Delivered, Outcome

#: Slack's limits, in characters; and seconds that a post may take.
MOST_HEADER, MOST_TEXT, MOST_LINES = 150, 3000, 10
DEADLINE = 10.0
#: Bytes of an answer that are read: Slack's are a word or two.
MOST_ANSWER = 1024
LONGEST_RETRY_AFTER = 3600.0

_EMOJI = {"first": ":rotating_light:", "worse": ":rotating_light:", "resolved": ":white_check_mark:"}


def render(reason: str, content: Mapping[str, Any], runbook: str | None = None) -> dict[str, Any]:
    """The message as Block Kit, with a text for notifications and screen readers.

    content: {title, lines: [[name, value]], command, runbook}; `runbook`: where that is served. Everything in it is
    shown as plain text or escaped, so that nothing from a job can mention people or make a link.
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
    what_to_do = runbook_of(runbook, content)
    if what_to_do and reason != "resolved":
        text = f"<{_escape(what_to_do)}|What to do>"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}})
    mark = _EMOJI.get(reason, "")
    return {"text": f"{mark} {_escape(_cut(title, MOST_TEXT))}".strip(), "blocks": blocks}


class SlackChannel:
    """Posts to one webhook."""

    name = "slack"

    def __init__(self, webhook: SecretStr, *, runbook: str | None = None, deadline: float = DEADLINE) -> None:
        check_webhook(webhook.get_secret_value())
        self._runbook = runbook
        self._webhook = webhook
        self._deadline = deadline
        self._http = httpx.AsyncClient(timeout=deadline, follow_redirects=False)

    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome:
        """Post it once, and say what Slack made of it."""
        # The text of these errors may hold the address, and with it the secret.
        try:
            async with asyncio.timeout(self._deadline):  # the client's own holds for each part of an answer
                return await self._post(render(reason, content, self._runbook))
        except (TimeoutError, httpx.TimeoutException):
            return Again(f"Slack did not answer within {self._deadline:g} s")
        except httpx.HTTPError as error:
            return Again(f"Slack did not answer: {type(error).__name__}")
        except (httpx.InvalidURL, ValueError) as error:
            return Broken(f"the webhook's address cannot be used: {type(error).__name__}")

    async def _post(self, message: Mapping[str, Any]) -> Outcome:
        async with self._http.stream("POST", self._webhook.get_secret_value(), json=message) as answer:
            body = bytearray()
            async for piece in answer.aiter_bytes(MOST_ANSWER):
                body += piece
                if len(body) >= MOST_ANSWER:
                    break
            return classify(answer.status_code, body.decode("utf-8", "replace"), answer.headers.get("retry-after"))

    async def close(self) -> None:
        await self._http.aclose()


def classify(status: int, body: str, retry_after: str | None) -> Outcome:
    """What an answer means.

    >>> classify(404, "no_service", None)
    Broken(why='Slack refuses: 404 no_service')
    """
    if status == 200:
        return Delivered()
    word = "".join(char for char in body.strip()[:60] if char.isalnum() or char in "_- ")
    if status == 429:
        return Again("Slack asks for fewer messages (429)", _seconds(retry_after) or 1.0)
    if status >= 500 or status == 408:
        return Again(f"Slack answers {status} {word}".strip(), _seconds(retry_after))
    return Broken(f"Slack refuses: {status} {word}".strip())


def _seconds(text: str | None) -> float | None:
    """Retry-After as it comes: whole or fractional seconds."""
    try:
        seconds = float(text) if text else None
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER) if seconds is not None and math.isfinite(seconds) and seconds > 0 else None


def _escape(text: str) -> str:
    """As Slack asks for (docs.slack.dev, "Formatting text"): nothing is special without its three characters."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
