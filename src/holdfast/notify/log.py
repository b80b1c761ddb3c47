"""The channel of last resort: a line in the log, where no other channel is set."""

import logging
from collections.abc import Mapping
from typing import Any

from holdfast.notify.channel import Delivered, Outcome

_log = logging.getLogger("holdfast.incidents")


class LogChannel:
    """Writes incidents to the log."""

    name = "log"
    takes_digests = False
    pace = 0.0

    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome:
        """Always delivered."""
        level = logging.INFO if reason in ("resolved", "test") else logging.ERROR
        what_to_do = content.get("runbook") if level == logging.ERROR else None
        _log.log(level, "incident %s: %s%s", reason, content.get("title"), f" ({what_to_do})" if what_to_do else "")
        return Delivered()

    async def close(self) -> None:
        """Nothing to close."""
