"""Holdfast keeps hold of every background job: leases, rescue of stuck jobs, and the truth about their health."""

from holdfast.app import Holdfast, Job, JobKind
from holdfast.config import Settings
from holdfast.core.ratelimit import Decision
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
from holdfast.services.run import Context, current_context

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
    "ResultTimeout",
    "RetryPolicy",
    "SchemaMismatch",
    "Settings",
    "current_context",
]
