"""Holdfast keeps hold of every background job: leases, rescue of stuck jobs, and the truth about their health."""

from typing import TYPE_CHECKING, Any

from holdfast.app import Holdfast
from holdfast.core.ratelimit import Decision, Limit, Policy
from holdfast.core.retry import RetryPolicy
from holdfast.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    GiveUp,
    HoldfastError,
    InvalidArguments,
    InvalidConnection,
    InvalidResult,
    JobCancelled,
    JobFailed,
    JobNotFound,
    LeaseLost,
    ResultTimeout,
    SchemaMismatch,
)
from holdfast.handles import Job, JobKind
from holdfast.services.context import Context, JobLogFilter, current_context
from holdfast.standalone import rate_limit, rate_limit_sync

if TYPE_CHECKING:
    from holdfast.config import Settings
    from holdfast.postgres.calls import JobVerdict, NewJob
    from holdfast.postgres.reads import JobRow
    from holdfast.services.limiter import RateLimiter
    from holdfast.services.limiter_sync import SyncRateLimiter

__all__ = [
    "ConfigurationError",
    "Context",
    "DatabaseUnavailable",
    "Decision",
    "GiveUp",
    "Holdfast",
    "HoldfastError",
    "InvalidArguments",
    "InvalidConnection",
    "InvalidResult",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobKind",
    "JobLogFilter",
    "JobNotFound",
    "JobRow",
    "JobVerdict",
    "LeaseLost",
    "Limit",
    "NewJob",
    "Policy",
    "RateLimiter",
    "ResultTimeout",
    "RetryPolicy",
    "SchemaMismatch",
    "Settings",
    "SyncRateLimiter",
    "current_context",
    "rate_limit",
    "rate_limit_sync",
]

#: Imported on first use, so that `import holdfast` stays quick.
_LATER = {
    "JobRow": "holdfast.postgres.reads",
    "JobVerdict": "holdfast.postgres.calls",
    "NewJob": "holdfast.postgres.calls",
    "RateLimiter": "holdfast.services.limiter",
    "Settings": "holdfast.config",
    "SyncRateLimiter": "holdfast.services.limiter_sync",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LATER[name]), name)
    globals()[name] = value
    return value
