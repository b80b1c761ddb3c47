"""Values on their way through JSON: what the driver would send and give, as PostgREST reads and writes it."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

#: As Postgres writes an interval by default. A month counts 30 days and a year 365, as the driver has it.
_INTERVAL = re.compile(
    r"(?:(?P<years>-?\d+) years? ?)?(?:(?P<months>-?\d+) mons? ?)?(?:(?P<days>-?\d+) days? ?)?"
    r"(?:(?P<sign>[-+])?(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>[\d.]+))?"
)


def encode(value: Any, type: str) -> Any:
    if value is None:
        return None
    if type.endswith("[]"):
        if isinstance(value, str):
            return [encode(each, type[:-2]) for each in value.strip("{}").split(",") if each]
        return [encode(each, type[:-2]) for each in value]
    if type in ("json", "jsonb"):
        return json.loads(value) if isinstance(value, str | bytes) else value
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.6f} seconds"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(value) if isinstance(value, UUID) else value


def decode(value: Any, type: str) -> Any:
    """A value of an answer, as the driver would give it."""
    if value is None or type in ("json", "jsonb"):
        return value
    if type.endswith("[]"):
        return [decode(each, type[:-2]) for each in value]
    decoder = _DECODERS.get(type)
    return value if decoder is None else decoder(value)


def _interval(text: str) -> timedelta:
    found = _INTERVAL.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no interval")
    parts = {name: float(found[name] or 0) for name in ("years", "months", "days", "hours", "minutes", "seconds")}
    clock = timedelta(hours=parts["hours"], minutes=parts["minutes"], seconds=parts["seconds"])
    days = timedelta(days=parts["years"] * 365 + parts["months"] * 30 + parts["days"])
    return days - clock if found["sign"] == "-" else days + clock


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "uuid": UUID,
    "timestamptz": datetime.fromisoformat,
    "interval": _interval,
    "bytea": lambda text: bytes.fromhex(text.removeprefix("\\x")),
}
