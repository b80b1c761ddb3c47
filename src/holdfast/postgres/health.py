"""The look at the ledger that health checks are judged by."""

from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from holdfast.core.health import Report
from holdfast.postgres.calls import Call

_report: TypeAdapter[Report] = TypeAdapter(Report)


def health_report(stale_after: float) -> Call[Report]:
    """One bounded look at workers, queues, stuck and ended jobs, monitors."""

    def read(found: dict[str, Any]) -> Report:
        return _report.validate_python(found)

    return Call("health_report", "SELECT holdfast.health_report(%s::interval)", (timedelta(seconds=stale_after),), read)
