"""Holdfast keeps hold of every background job: leases, rescue of stuck jobs, and the truth about their health."""

from holdfast.app import Holdfast, Job, JobKind
from holdfast.config import Settings
from holdfast.core.ratelimit import Decision, Limit, Policy
from holdfast.core.retry import RetryPolicy
from holdfast.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    HoldfastError,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    JobNotFound,
    LeaseLost,
    ResultTimeout,
    SchemaMismatch,
)
from holdfast.services.limiter import RateLimiter
from holdfast.services.limiter_sync import SyncRateLimiter
from holdfast.services.run import Context, current_context
from holdfast.standalone import rate_limit, rate_limit_sync

__all__ = [
    "ConfigurationError",
    "Context",
    "DatabaseUnavailable",
    "Decision",
    "Holdfast",
    "HoldfastError",
    "InvalidArguments",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobKind",
    "JobNotFound",
    "LeaseLost",
    "Limit",
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
