"""What a channel's address must look like; known before anything is sent."""

from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError

_LOCAL = ("localhost", "127.0.0.1", "::1")


def check_webhook(url: str, *, setting: str = "SLACK_WEBHOOK_URL") -> None:
    """Raise `ConfigurationError` for what cannot be a webhook, without repeating it: it is a secret."""
    try:
        parts = urlsplit(url)
        is_one = url.isascii() and url.isprintable() and " " not in url and parts.port != 0
    except ValueError:  # its text quotes the address
        parts, is_one = urlsplit(""), False
    is_local = parts.scheme == "http" and parts.hostname in _LOCAL
    is_one = is_one and bool(parts.hostname) and (parts.scheme == "https" or is_local)
    if not is_one and setting != "SLACK_WEBHOOK_URL":
        raise ConfigurationError(f"{setting} is no webhook's address; it looks like https://example.org/hooks/x")
    if not is_one:
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
