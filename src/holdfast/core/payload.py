"""What may be stored as JSON: arguments, results, progress. Checked before anything is sent."""

import json
from typing import Any

MAX_BYTES = 1_048_576

#: Postgres refuses what is nested some thousands deep, other readers less; nobody means to send either.
MAX_DEPTH = 200


class PayloadError(ValueError):
    """The value cannot be stored; the text says why and where."""


def encode(value: Any, *, what: str, max_bytes: int = MAX_BYTES) -> str:
    """JSON text of a value, or `PayloadError`.

    Refused are what JSON does not know (and NaN, Infinity), text with NUL or lone surrogates (Postgres's jsonb stores
    neither), more than `MAX_DEPTH` levels, and more than `max_bytes` of UTF-8.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PayloadError(f"{what} holds a lone surrogate, which is not text: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"{what} is not JSON: {error}") from error
    if size > max_bytes:
        raise PayloadError(
            f"{what} has {size:,} bytes as JSON, the limit is {max_bytes:,}; store it elsewhere and pass its address"
        )
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise PayloadError(f"{what} is nested more than {MAX_DEPTH} levels deep; store it elsewhere or as text")
    if "\\u0000" in text and _holds_nul(value):
        raise PayloadError(f"{what} holds the character NUL, which Postgres cannot store; remove it or send base64")
    return text


def is_plain(text: str) -> bool:
    """Whether a JSON text is surely what `encode` lets pass: short, flat, and without the words that it looks for.

    >>> is_plain('{"a":[1]}'), is_plain('{"a":NaN}')
    (True, False)
    """
    return (
        len(text) < MAX_BYTES // 4
        and text.count("[") + text.count("{") <= MAX_DEPTH
        and "\\u0000" not in text
        and "NaN" not in text
        and "Infinity" not in text
    )


def is_storable(text: str) -> bool:
    """Whether Postgres can store a text: neither NUL nor a lone surrogate is in it.

    >>> is_storable("a\\x00b"), is_storable("\\ud800")
    (False, False)
    """
    if "\x00" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str) -> str:
    """A text without what Postgres cannot store, for texts that we do not choose, such as an error's.

    >>> storable("a\\x00b\\ud800c")
    'ab?c'
    """
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _is_deeper(value: Any, levels: int) -> bool:
    """Level by level, without recursion. It ends, since the value has become JSON and so is no loop."""
    layer = [value]
    for _ in range(levels):
        inner: list[Any] = []
        for item in layer:
            inner.extend(item.values() if isinstance(item, dict) else item)
        layer = [item for item in inner if isinstance(item, dict | list | tuple)]
    return bool(layer)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(_holds_nul(item) for item in value)
    return False
