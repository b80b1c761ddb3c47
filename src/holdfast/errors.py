"""Every exception that Holdfast raises.

HoldfastError
├── ConfigurationError        a setting is wrong: the text names it, its value, and the way out
├── AppLoadError              the application given as ``module:attribute`` cannot be loaded
├── DatabaseError
│   ├── DatabaseUnavailable   nothing answered, or not before the deadline
│   │   └── DatabaseRefused   it answers and refuses: wrong credentials, no such database, a missing grant
│   ├── DatabaseTooOld        the server is older than Postgres 15
│   ├── InvalidValue          a value that Postgres refuses to store
│   ├── SchemaMismatch        the schema is missing, older or newer than this Holdfast
│   └── EmbeddedPostgresError the local server cannot be found, started or stopped
├── MigrationError            a migration file was edited, or failed
├── JobError
│   ├── InvalidArguments      arguments that do not fit the handler, or are not JSON
│   ├── IdempotencyKeyReused  the key of a request stands for another request
│   ├── InvalidResult         a handler returned what cannot be stored
│   ├── JobNotFound           no job of that id
│   ├── JobFailed             waiting for the result of a job that ended `dead`
│   ├── JobCancelled          waiting for the result of a job that ended `cancelled`
│   └── LeaseLost             this run no longer holds its job: nothing was written
├── QueueError
│   ├── QueueUnavailable      SQS does not answer, or not now
│   ├── QueueNotFound         there is no such queue
│   └── QueueRefused          SQS refuses: credentials, or a permission that is missing
├── WorkerGone                this worker was declared gone, which is final
└── ResultTimeout             the job had not ended before the time that the caller gave
"""


class HoldfastError(Exception):
    """Base of all errors raised by Holdfast."""


class ConfigurationError(HoldfastError):
    """A setting is wrong: the text names it, its value, and the way out."""


class AppLoadError(HoldfastError):
    """The application given as ``module:attribute`` cannot be loaded."""


class DatabaseError(HoldfastError):
    """The ledger cannot be used."""


class DatabaseUnavailable(DatabaseError):
    """Nothing answered, or not before the deadline."""


class DatabaseRefused(DatabaseUnavailable):
    """It answers and refuses: wrong credentials, no such database, a missing grant."""


class DatabaseTooOld(DatabaseError):
    """The server is older than Postgres 15."""


class InvalidValue(DatabaseError):
    """Postgres refuses to store a value; nothing of the call was kept."""


class SchemaMismatch(DatabaseError):
    """The schema is missing, older or newer than this Holdfast."""


class EmbeddedPostgresError(DatabaseError):
    """The local server cannot be found, started or stopped."""


class MigrationError(HoldfastError):
    """A migration file was edited after it was applied, or failed."""


class JobError(HoldfastError):
    """Something about one job."""


class InvalidArguments(JobError):
    """Arguments that do not fit the handler, or are not JSON."""


class IdempotencyKeyReused(JobError):
    """The idempotency key of a request stands for another request already; nothing was written."""


class InvalidResult(JobError):
    """A handler returned a value that cannot be stored."""


class JobNotFound(JobError):
    """No job of that id."""


class JobFailed(JobError):
    """The job whose result was waited for ended `dead`."""


class JobCancelled(JobError):
    """The job whose result was waited for ended `cancelled`."""


class LeaseLost(JobError):
    """This run no longer holds its job; nothing was written."""


class QueueError(HoldfastError):
    """SQS could not do what was asked of it."""


class QueueUnavailable(QueueError):
    """SQS does not answer, or not now."""


class QueueNotFound(QueueError):
    """There is no such queue."""


class QueueRefused(QueueError):
    """SQS refuses: credentials, or a permission that is missing."""


class WorkerGone(HoldfastError):
    """This worker was declared gone, which is final; a new process needs a new id."""


class ResultTimeout(HoldfastError, TimeoutError):
    """The job had not ended before the time that the caller gave."""
