"""What leads from an alert to what to do about it: the address of its place on the runbook, for every channel."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from holdfast.notify.channel import Channel, Outcome


def with_runbook(base: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content, with the address of its place where it names one.

    >>> with_runbook("https://docs.example.com/runbook/", {"place": "database"})["runbook"]
    'https://docs.example.com/runbook/#database'
    """
    place = content.get("place")
    return {**content, "runbook": f"{base}#{quote(str(place))}"} if place else dict(content)


class LeadingChannel:
    """A channel whose messages lead to the runbook at `base`."""

    def __init__(self, channel: Channel, base: str) -> None:
        self._channel = channel
        self._base = base

    @property
    def name(self) -> str:
        """The channel's own."""
        return self._channel.name

    @property
    def takes_digests(self) -> bool:
        """The channel's own."""
        return self._channel.takes_digests

    @property
    def pace(self) -> float:
        """The channel's own."""
        return self._channel.pace

    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome:
        """As the channel does."""
        return await self._channel.send(reason, with_runbook(self._base, content))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
