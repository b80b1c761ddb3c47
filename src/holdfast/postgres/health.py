"""Looks at the ledger that health checks are judged by: each part alone, or all of them at once."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from holdfast.core.health import PARTS, Report
from holdfast.postgres.calls import Call

_report: TypeAdapter[Report] = TypeAdapter(Report)
_fields: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(hint) for name, hint in get_type_hints(Report).items()}


def health_report(stale_after: float) -> Call[Report]:
    """One bounded look at everything."""
    text = "SELECT holdfast.health_report(%s::interval)"
    return Call("health_report", text, (timedelta(seconds=stale_after),), _report.validate_python)


def health_part(part: str, stale_after: float) -> Call[dict[str, Any]]:
    """One bounded look at one part: the fields of a `Report` that it brings."""
    takes_time = part == "stale"
    text = "SELECT holdfast.health_stale(%s::interval)" if takes_time else _TEXTS[part]

    def read(found: dict[str, Any]) -> dict[str, Any]:
        return {name: _fields[name].validate_python(found[name]) for name in PARTS[part]}

    return Call(f"health_{part}", text, (timedelta(seconds=stale_after),) if takes_time else (), read)


_TEXTS = {part: f"SELECT holdfast.health_{part}()" for part in PARTS}
