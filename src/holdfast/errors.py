"""Every exception that Holdfast raises.

HoldfastError
├── ConfigurationError        a setting is wrong: the text names it, its value, and the way out
├── InvalidConnection         a conn= of no known library, of the wrong kind, or without an open transaction
├── AppLoadError              the application given as ``module:attribute`` cannot be loaded
├── DatabaseError
│   ├── DatabaseUnavailable   nothing answered, or not before the deadline
│   │   └── DatabaseRefused   it answers and refuses: wrong credentials, no such database, a missing grant
│   ├── DatabaseTooOld        the server is older than Postgres 15
│   ├── NeedsConnection       a connection to Postgres can do it, HTTPS alone cannot
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
│   ├── TransactionFailed     a statement in `ctx.transaction` failed, and the handler went on: nothing was written
│   └── LeaseLost             this run no longer holds its job: nothing was written
├── QueueError
│   ├── QueueUnavailable      SQS does not answer, or not now
│   ├── QueueNotFound         there is no such queue
│   └── QueueRefused          SQS refuses: credentials, or a permission that is missing
├── GiveUp                    raised by a handler: no further attempt, the job is dead
├── WorkerGone                this worker was declared gone, which is final
└── ResultTimeout             the job had not ended before the time that the caller gave
"""


class HoldfastError(Exception):
    """Base of all errors raised by Holdfast.

    >>> try:
    ...     await send_mail.enqueue(to=3)
    ... except HoldfastError as error:
    ...     print(type(error).__name__)
    InvalidArguments
    """


class ConfigurationError(HoldfastError):
    """A setting is wrong: the text names it, its value, and the way out.

    >>> Holdfast().job(max_attempts=0)
    Traceback (most recent call last):
    holdfast.errors.ConfigurationError: max_attempts is 0; it must be a whole number from 1 to 1,000,000
    """


class InvalidConnection(HoldfastError, TypeError):
    """What was given as `conn` cannot be used: no known library, blocking for asyncio, or no open transaction.

    >>> send_mail.options(conn="postgresql:///app").enqueue_sync(to="ada@example.org")
    Traceback (most recent call last):
    holdfast.errors.InvalidConnection: conn is a builtins.str; it must be a connection or session of psycopg, ...
    """


class AppLoadError(HoldfastError):
    """The application given as ``module:attribute`` cannot be loaded."""


class DatabaseError(HoldfastError):
    """The ledger cannot be used."""


class DatabaseUnavailable(DatabaseError):
    """Nothing answered, or not before the deadline.

    >>> await Holdfast("postgresql://127.0.0.1:9/app").enqueue_many([send_mail.prepare(to="ada@example.org")])
    Traceback (most recent call last):
    holdfast.errors.DatabaseUnavailable: database 'app' at 127.0.0.1:9 cannot be reached: ...
    """


class DatabaseRefused(DatabaseUnavailable):
    """It answers and refuses: wrong credentials, no such database, a missing grant."""


class DatabaseTooOld(DatabaseError):
    """The server is older than Postgres 15."""


class NeedsConnection(DatabaseError):
    """Only a connection to Postgres can do it, and the ledger is reached over HTTPS alone."""


class InvalidValue(DatabaseError):
    """Postgres refuses to store a value; nothing of the call was kept."""


class SchemaMismatch(DatabaseError):
    """The schema is missing, older or newer than this Holdfast.

    >>> from holdfast import SchemaMismatch
    >>> def is_migrated(hf) -> bool:
    ...     try:
    ...         hf.get_sync(UUID(int=7))
    ...     except SchemaMismatch:
    ...         return False  # run: holdfast migrate up
    ...     except JobNotFound:
    ...         return True
    >>> is_migrated(hf)
    True
    """


class EmbeddedPostgresError(DatabaseError):
    """The local server cannot be found, started or stopped."""


class MigrationError(HoldfastError):
    """A migration file was edited after it was applied, or failed."""


class JobError(HoldfastError):
    """Something about one job."""


class InvalidArguments(JobError):
    """Arguments that do not fit the handler, or are not JSON.

    >>> send_mail.prepare(to=3)
    Traceback (most recent call last):
    holdfast.errors.InvalidArguments: send_mail: to: Input should be a valid string, got 3
    """


class IdempotencyKeyReused(JobError):
    """The idempotency key of a request stands for another request already; nothing was written."""


class InvalidResult(JobError):
    """A handler returned a value that cannot be stored.

    >>> @hf.job()
    ... def wrong() -> object:
    ...     return float("nan")
    >>> await (await wrong.enqueue()).result(timeout=30)
    Traceback (most recent call last):
    holdfast.errors.JobFailed: job ... (wrong) is dead: InvalidResult: result of wrong is not JSON: ...
    """


class JobNotFound(JobError):
    """No job of that id.

    >>> await hf.get(UUID(int=7))
    Traceback (most recent call last):
    holdfast.errors.JobNotFound: no job has the id 00000000-0000-0000-0000-000000000007; it may have been removed ...
    """


class JobFailed(JobError):
    """The job whose result was waited for ended `dead`.

    >>> @hf.job(max_attempts=1)
    ... def divide(a: int, b: int) -> float:
    ...     return a / b
    >>> await (await divide.enqueue(1, 0)).result(timeout=30)
    Traceback (most recent call last):
    holdfast.errors.JobFailed: job ... (divide) is dead: ZeroDivisionError: division by zero
    """


class JobCancelled(JobError):
    """The job whose result was waited for ended `cancelled`.

    >>> job = await send_mail.options(delay=60).enqueue(to="ada@example.org")
    >>> await job.cancel()
    'cancelled'
    >>> await job.result(timeout=30)
    Traceback (most recent call last):
    holdfast.errors.JobCancelled: job ... (send_mail) was cancelled
    """


class LeaseLost(JobError):
    """This run no longer holds its job; nothing was written.

    >>> @hf.job()
    ... async def walk(ctx: Context, steps: int) -> None:
    ...     for step in range(steps):
    ...         try:
    ...             await ctx.progress(step)
    ...         except LeaseLost:
    ...             return  # somebody else runs this job now: stop what cannot be fenced
    """


class TransactionFailed(JobError):
    """A statement in `ctx.transaction` had failed and its error was passed over; nothing was written."""


class GiveUp(HoldfastError):
    """Raised by a handler that knows that another attempt would be in vain: the job is dead at once, with this text.

    >>> @hf.job(max_attempts=10)
    ... async def charge(card: str) -> None:
    ...     raise GiveUp(f"card {card} has expired")
    >>> await (await charge.enqueue("4711")).result(timeout=30)
    Traceback (most recent call last):
    holdfast.errors.JobFailed: job ... (charge) is dead: GiveUp: card 4711 has expired
    """


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
    """The job had not ended before the time that the caller gave.

    >>> job = await send_mail.options(delay=60).enqueue(to="ada@example.org")
    >>> await job.result(timeout=0.1)
    Traceback (most recent call last):
    holdfast.errors.ResultTimeout: job ... had not ended after 0.1 s; it goes on
    """
