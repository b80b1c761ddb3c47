"""What a channel's address must look like; known before anything is sent."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from holdfast.errors import ConfigurationError

_LOCAL = ("localhost", "127.0.0.1", "::1")


def check_webhook(url: str) -> None:
    """Raise `ConfigurationError` for what cannot be a webhook, without repeating it: it is a secret."""
    try:
        parts = urlsplit(url)
        is_one = url.isascii() and url.isprintable() and " " not in url and parts.port != 0
    except ValueError:  # its text quotes the address
        parts, is_one = urlsplit(""), False
    is_local = parts.scheme == "http" and parts.hostname in _LOCAL
    if not is_one or not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ConfigurationError(
            "SLACK_WEBHOOK_URL is no webhook's address; it looks like https://hooks.slack.com/services/T.../B.../..."
            " (make one at api.slack.com/apps, Incoming Webhooks)"
        )
    if parts.hostname == "hooks.slack.com" and not parts.path.startswith(("/services/", "/workflows/", "/triggers/")):
        raise ConfigurationError(
            "SLACK_WEBHOOK_URL lacks its path; copy the whole address, https://hooks.slack.com/services/T.../B.../..."
        )


def check_runbook(url: str) -> None:
    """Raise `ConfigurationError` for what cannot be linked to.

    >>> check_runbook("wiki/jobs")
    Traceback (most recent call last):
    holdfast.errors.ConfigurationError: runbook_url is 'wiki/jobs'; it must be an address, https://...
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or set(url) & set("<>|# "):
        raise ConfigurationError(f"runbook_url is {url[:100]!r}; it must be an address, https://...")


def runbook_of(base: str | None, content: Mapping[str, Any]) -> str | None:
    """The address of what to do about an incident, where it is known where the runbook is served.

    >>> runbook_of("https://docs.example.com/runbook/", {"runbook": "database"})
    'https://docs.example.com/runbook/#database'
    """
    place = content.get("runbook")
    return f"{base}#{quote(str(place))}" if base and place else None
