"""Where an alert leads, over every channel: to its place on the runbook, and to its incident on the dashboard."""

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


def with_dashboard(url: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content, with the address of its incident where the API at `url` shows it; of a digest, that of all.

    >>> with_dashboard("https://jobs.example.org/", {"incident": "0197a3c1"})["dashboard"]
    'https://jobs.example.org/dashboard/incidents/0197a3c1'
    """
    incident = content.get("incident")
    one = f"/{quote(str(incident))}" if incident else ""
    return {**content, "dashboard": f"{url.rstrip('/')}/dashboard/incidents{one}"}


class LeadingChannel:
    """A channel whose messages lead to the runbook, and to the dashboard of the API at `url`, where these are known."""

    def __init__(self, channel: Channel, *, runbook: str | None = None, url: str | None = None) -> None:
        self._channel = channel
        self._runbook = runbook
        self._url = url

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
        told = dict(content) if self._runbook is None else with_runbook(self._runbook, content)
        return await self._channel.send(reason, told if self._url is None else with_dashboard(self._url, told))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
