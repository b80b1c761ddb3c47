"""What the SDK raises, told as errors of ours: by the queue's name, without account, address or secret."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.errors import QueueNotFound, QueueRefused, QueueUnavailable
from holdfast.sqs.connection import Connection

#: Codes of what is over by itself, besides those that say throttling.
_FOR_NOW = frozenset(
    {
        "ServiceUnavailable",
        "InternalFailure",
        "InternalError",
        "RequestTimeout",
        "OverLimit",
        "500",
        "502",
        "503",
        "504",
    }
)


@contextlib.contextmanager
def translated(queue: str, within: float | None, connection: Connection) -> Iterator[None]:
    """For the time of one call about a queue, which was given so many seconds."""
    from botocore import exceptions

    try:
        yield
    except connection.missing as error:
        raise QueueNotFound(f"there is no queue {queue!r} at this endpoint and account") from error
    except exceptions.ClientError as error:
        raise _refusal(queue, error.response.get("Error", {})) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise QueueRefused("no AWS credentials were found: set AWS_ACCESS_KEY_ID or a role") from error
    except exceptions.NoRegionError as error:
        raise QueueRefused("no AWS region is known: set AWS_REGION, or give --region") from error
    except exceptions.ProfileNotFound as error:
        raise QueueRefused("AWS_PROFILE names a profile that does not exist on this machine") from error
    except TimeoutError as error:
        raise QueueUnavailable(f"SQS does not answer for queue {queue!r} within {within or 0:g} s") from error
    except (exceptions.BotoCoreError, OSError) as error:
        raise QueueUnavailable(f"SQS does not answer for queue {queue!r}: {type(error).__name__}") from error


@contextlib.contextmanager
def understood(queue: str) -> Iterator[None]:
    """For the reading of an answer about a queue: a server that is not SQS may say anything."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise QueueUnavailable(f"what answers for queue {queue!r} is not SQS") from error


def _refusal(queue: str, error: Mapping[str, Any]) -> QueueRefused | QueueUnavailable:
    code = str(error.get("Code", ""))
    if "Throttl" in code or code.rpartition(".")[2] in _FOR_NOW:
        return QueueUnavailable(f"SQS does not serve queue {queue!r} now: {code}")
    return QueueRefused(f"SQS refuses this for queue {queue!r}: {code}")
