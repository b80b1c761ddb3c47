"""PagerDuty, through its Events API v2.

Each incident is one alert there, by its id as `dedup_key`: what grows is told to the alert that is open, its end
resolves it (developer.pagerduty.com, "Events API v2 Overview").
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from holdfast.notify.channel import Outcome
from holdfast.notify.posting import Poster, classify_plainly

URL = "https://events.pagerduty.com/v2/enqueue"
DEADLINE = 10.0
#: PagerDuty's limits, in characters.
MOST_SUMMARY, MOST_KEY = 1024, 255


def render(key: str, reason: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The event. `key` is the service's integration key, which is a secret."""
    dedup = str(content.get("incident") or f"holdfast-{content.get('title', '')}")[:MOST_KEY]
    event: dict[str, Any] = {"routing_key": key, "dedup_key": dedup, "client": "Holdfast"}
    if reason == "resolved":
        return {**event, "event_action": "resolve"}
    details = {str(name): str(value) for name, value in content.get("lines") or []}
    if content.get("command"):
        details["command"] = str(content["command"])
    leads = ((content.get("dashboard"), "Dashboard"), (content.get("runbook"), "What to do"))
    links = [{"href": str(address), "text": text} for address, text in leads if address]
    return {
        **event,
        "event_action": "trigger",
        **({"links": links} if links else {}),
        "payload": {
            "summary": str(content.get("title", ""))[:MOST_SUMMARY],
            "source": "holdfast",
            "severity": "info" if reason == "test" else "critical" if content.get("level") else "error",
            "class": str(content.get("kind", "")),
            "custom_details": details,
        },
    }


class PagerDutyChannel:
    """Sends events to one service."""

    name = "pagerduty"
    takes_digests = False
    pace = 0.1

    def __init__(self, key: SecretStr, *, url: str = URL, deadline: float = DEADLINE) -> None:
        self._key = key
        self._url = url
        self._poster = Poster("PagerDuty", classify_plainly("PagerDuty"), deadline=deadline)

    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome:
        """Send it once."""
        body = json.dumps(render(self._key.get_secret_value(), reason, content)).encode()
        return await self._poster.post(self._url, body)

    async def close(self) -> None:
        await self._poster.close()
