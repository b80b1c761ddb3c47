"""The channels that are set, made from their addresses, which are secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from pydantic import SecretStr

from holdfast.notify.channel import Channel
from holdfast.notify.log import LogChannel
from holdfast.notify.runbook import LeadingChannel


@dataclass(frozen=True)
class Addresses:
    """Where people are told; None is not set. Shown by `channels` only: the rest is secret."""

    slack: str | None = None
    webhook: str | None = None
    webhook_secret: str | None = None
    pagerduty: str | None = None
    pagerduty_url: str | None = None
    apprise: str | None = None
    runbook: str | None = None
    url: str | None = None

    @property
    def channels(self) -> list[str]:
        """The names of the channels; the log where there is no other."""
        found = [name for name in ("slack", "webhook", "pagerduty", "apprise") if getattr(self, name)]
        return found or ["log"]

    def __repr__(self) -> str:
        return f"Addresses({', '.join(self.channels)})"

    def as_json(self) -> dict[str, str | None]:
        """To travel to another process, in its environment."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def make_channels(addresses: Addresses) -> dict[str, Channel]:
    """The channels, by name. Raises `ConfigurationError` for an address that cannot be one."""
    makers = {"slack": _slack, "webhook": _webhook, "pagerduty": _pagerduty, "apprise": _apprise, "log": _log}
    made = {name: makers[name](addresses) for name in addresses.channels}
    if addresses.runbook is None and addresses.url is None:
        return made
    leads = {"runbook": addresses.runbook, "url": addresses.url}
    return {name: LeadingChannel(channel, **leads) for name, channel in made.items()}


def from_json(given: Mapping[str, str | None]) -> Addresses:
    """The opposite of `as_json`."""
    return Addresses(**given)


def _log(_: Addresses) -> Channel:
    return LogChannel()


def _slack(addresses: Addresses) -> Channel:
    from holdfast.notify.slack import SlackChannel

    return SlackChannel(SecretStr(addresses.slack or ""))


def _webhook(addresses: Addresses) -> Channel:
    from holdfast.notify.webhook import WebhookChannel

    secret = addresses.webhook_secret
    return WebhookChannel(SecretStr(addresses.webhook or ""), None if secret is None else SecretStr(secret))


def _pagerduty(addresses: Addresses) -> Channel:
    from holdfast.notify.pagerduty import URL, PagerDutyChannel

    return PagerDutyChannel(SecretStr(addresses.pagerduty or ""), url=addresses.pagerduty_url or URL)


def _apprise(addresses: Addresses) -> Channel:
    from holdfast.notify.apprise import AppriseChannel

    return AppriseChannel(SecretStr(addresses.apprise or ""))
