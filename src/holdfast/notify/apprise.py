"""Apprise: over a hundred services more, each by a URL of its own (https://github.com/caronc/apprise).

Apprise says only whether it worked, and works in threads: so it is for what has no channel here.
"""

import asyncio
import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from holdfast.errors import ConfigurationError
from holdfast.notify.channel import Again, Delivered, Outcome

DEADLINE = 20.0


class AppriseChannel:
    """Tells all services whose URLs are given, comma-separated."""

    name = "apprise"
    takes_digests = True
    pace = 1.0

    def __init__(self, urls: SecretStr, *, deadline: float = DEADLINE) -> None:
        try:
            module = importlib.import_module("apprise")
        except ImportError as error:
            raise ConfigurationError(
                "HOLDFAST_APPRISE_URLS is set, which needs Apprise: pip install apprise"
            ) from error
        self._deadline = deadline
        self._all: Any = module.Apprise()
        for number, url in enumerate(filter(None, map(str.strip, urls.get_secret_value().split(","))), 1):
            if not self._all.add(url):
                raise ConfigurationError(f"address {number} of HOLDFAST_APPRISE_URLS is none that Apprise knows")

    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome:
        """Tell all of them; one that fails has all told again."""
        lines = [f"{name}: {value}" for name, value in content.get("lines") or []]
        text = "\n".join([*lines, *filter(None, map(content.get, ("command", "dashboard", "runbook")))]) or reason
        try:
            async with asyncio.timeout(self._deadline):
                is_told = await self._all.async_notify(title=str(content.get("title", "")), body=text)
        except TimeoutError:
            return Again(f"Apprise did not end within {self._deadline:g} s")
        return Delivered() if is_told else Again("Apprise could not tell all of its services")

    async def close(self) -> None:
        """Nothing to close."""
