"""What of a payload or of an error is not shown to anybody: values under names that sound like secrets."""

import re
from collections.abc import Collection
from functools import cache
from typing import Any

#: A name that contains one of these, whatever its case and dashes, has a value that is not shown.
SECRET = (
    "password", "passwd", "passphrase", "secret", "token", "authorization", "apikey", "privatekey", "accesskey",
    "credential", "cookie", "cvv", "cvc", "cardnumber", "iban", "ssn",
)  # fmt: skip
MASK = "[redacted]"


def redact(value: Any, more: Collection[str] = ()) -> Any:
    """The value without its secrets. `more`: further names.

    >>> redact({"to": "ada", "auth": {"API-Key": "k", "user": 1}, "pins": [{"pin": 2}]}, more=["pin"])
    {'to': 'ada', 'auth': {'API-Key': '[redacted]', 'user': 1}, 'pins': '[redacted]'}
    """
    names = (*SECRET, *(_plain(name) for name in more))
    return _redact(value, names)


#: What is a secret by its looks: passwords in addresses, keys of AWS, tokens, webhooks of Slack.
_LOOKS = re.compile(
    r"(?<=://)[^\s/@:]{0,64}:[^\s/@]{1,256}(?=@)|\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|\b(?:xox[abeprs]-|gh[opsu]_|sb_secret_|sbp_|hf_|sk-)[\w.-]{8,}|(?<=hooks\.slack\.com/)[\w/-]+"
)


def redact_text(text: str, more: Collection[str] = ()) -> str:
    """A text, such as that of an error, without the secrets in it. `more`: further names.

    >>> redact_text("no login: password=hunter2, user=ann, at postgres://app:pw@db/x")
    'no login: password=[redacted], user=ann, at postgres://[redacted]@db/x'
    """
    return _named((*SECRET, *map(_plain, more))).sub(rf"\g<name>{MASK}", _LOOKS.sub(MASK, text))


@cache
def _named(names: Collection[str]) -> re.Pattern[str]:
    """A name that holds one of these, with dashes anywhere, what stands between, and its value."""
    anyhow = "|".join("[_.-]?".join(map(re.escape, name)) for name in names if name)
    value = r"""(?:(?:Bearer|Basic|Token)\s+)?(?:"[^"\n]*"|'[^'\n]*'|[^\s"',;&)}\]]+)"""
    return re.compile(
        rf"""(?P<name>(?<![\w-])[\w-]{{0,64}}?(?:{anyhow})[\w-]{{0,64}}["']?\s{{0,3}}[=:]\s{{0,3}}){value}""",
        re.IGNORECASE,
    )


def _redact(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if any(name in _plain(str(key)) for name in names) else _redact(each, names)
            for key, each in value.items()
        }
    return [_redact(each, names) for each in value] if isinstance(value, list) else value


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
