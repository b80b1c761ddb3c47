"""What of a payload is not shown to anybody: values under names that sound like secrets."""

from collections.abc import Collection
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


def _redact(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if any(name in _plain(str(key)) for name in names) else _redact(each, names)
            for key, each in value.items()
        }
    return [_redact(each, names) for each in value] if isinstance(value, list) else value


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
