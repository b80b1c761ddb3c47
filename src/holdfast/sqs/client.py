"""The seam to SQS: the few calls that Holdfast makes, each with a deadline, with errors of our own.

The SDK's usual chain gives credentials, region and endpoint. Its defaults can wait for five minutes on an endpoint that
hangs; ours are the standard retries with three attempts, 3 s to connect, and 10 s for a call with its retries, beyond
the wait that was asked for. A queue's own address decides where a client connects, unless it is one of AWS's.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from holdfast.errors import ConfigurationError, QueueNotFound, QueueRefused, QueueUnavailable

#: Entries of a batch call; seconds to connect, to read beyond a wait, and for a call with all its retries.
BATCH = 10
CONNECT, READ = 3, 5
CALL = 10
LONGEST_WAIT = 20
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Message:
    """A message that was received. `receipt` is needed to release or delete it.

    `original`: {attributes: {name: {DataType, StringValue | BinaryValue in base64}}, system: {name: value}}, to send it
    again as it was; who sent it is left out.
    """

    id: str
    receipt: str
    body: str
    attributes: dict[str, str]
    received: int
    sent_at: datetime | None
    original: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueAttributes:
    """What SQS says of a queue. Times in seconds; counts are approximate, as SQS's are."""

    arn: str
    visible: int
    in_flight: int
    delayed: int
    visibility_timeout: int
    retention: int
    is_fifo: bool
    dead_letter_arn: str | None
    max_receive_count: int | None


def queue_name(url: str) -> str:
    """The queue's name: what may be shown of its URL, which holds an account's id.

    >>> queue_name("https://sqs.eu-west-1.amazonaws.com/123456789012/mail")
    'mail'
    """
    return unquote(urlsplit(url).path.rpartition("/")[2])


def check_queue_url(url: str, *, setting: str, fifo: bool) -> None:
    """Raise `ConfigurationError` for what is no queue's URL, or (unless `fifo`) that of a FIFO queue."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not queue_name(url):
        raise ConfigurationError(
            f"{setting} is {url[:100]!r}, which is no queue's URL; it looks like"
            " https://sqs.eu-west-1.amazonaws.com/123456789012/name"
        )
    if url.endswith(".fifo") and not fifo:
        raise ConfigurationError(
            f"{setting} names the FIFO queue {queue_name(url)!r}: a bell is deleted before its job is claimed, which"
            " frees its group at once, so FIFO adds nothing but cost; take a standard queue (group_key keeps order)"
        )


class Sqs:
    """SQS as seen from one queue's URL: its region and endpoint. Opens its client on first use; `close` when done."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Any = None
        self._open = contextlib.AsyncExitStack()

    async def send(self, url: str, bodies: Sequence[str]) -> int:
        """Send messages, in batches of 10; how many were taken. Those that SQS refuses one by one are not counted."""
        taken = 0
        for start in range(0, len(bodies), BATCH):
            entries = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[start : start + BATCH])
            ]
            async with self._calling(url) as client:
                answer = await client.send_message_batch(QueueUrl=url, Entries=entries)
            taken += len(answer.get("Successful", []))
        return taken

    async def receive(self, url: str, *, wait: int = 0, visibility: int | None = None) -> list[Message]:
        """Up to 10 messages, waiting up to `wait` seconds for the first; `visibility` seconds hidden from others.

        Never cancel it: the message would be given to a connection that is gone, and stay hidden.
        """
        options = {} if visibility is None else {"VisibilityTimeout": visibility}
        async with self._calling(url, wait=wait) as client:
            answer = await client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=min(wait, LONGEST_WAIT),
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
                **options,
            )
        return [_message(each) for each in answer.get("Messages", [])]

    async def delete(self, url: str, receipts: Sequence[str]) -> list[str]:
        """Delete messages; the receipts that SQS refused."""
        failed: list[str] = []
        for start in range(0, len(receipts), BATCH):
            part = receipts[start : start + BATCH]
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(part)]
            async with self._calling(url) as client:
                answer = await client.delete_message_batch(QueueUrl=url, Entries=entries)
            failed += [part[int(each["Id"])] for each in answer.get("Failed", [])]
        return failed

    async def release(self, url: str, receipts: Sequence[str], *, visibility: int = 0) -> list[str]:
        """Give messages back, to be seen again after `visibility` seconds; the receipts that SQS refused."""
        failed: list[str] = []
        for start in range(0, len(receipts), BATCH):
            part = receipts[start : start + BATCH]
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": visibility}
                for number, receipt in enumerate(part)
            ]
            async with self._calling(url) as client:
                answer = await client.change_message_visibility_batch(QueueUrl=url, Entries=entries)
            failed += [part[int(each["Id"])] for each in answer.get("Failed", [])]
        return failed

    async def attributes(self, url: str) -> QueueAttributes:
        """What SQS says of the queue."""
        async with self._calling(url) as client:
            answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return _attributes(answer.get("Attributes", {}), url)

    async def tags(self, url: str) -> dict[str, str]:
        """The queue's tags."""
        async with self._calling(url) as client:
            answer = await client.list_queue_tags(QueueUrl=url)
        return dict(answer.get("Tags") or {})

    async def url_of(self, arn: str) -> str:
        """The URL of the queue with this ARN, in this region."""
        if arn.count(":") != 5:
            raise QueueRefused(f"{arn[:100]!r} is no ARN of a queue")
        *_, account, name = arn.split(":")
        async with self._calling(name) as client:
            answer = await client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
        return str(answer["QueueUrl"])

    async def create(self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Make a queue, or find the equal one that is there; its URL."""
        async with self._calling(name) as client:
            answer = await client.create_queue(QueueName=name, Attributes=dict(attributes), tags=dict(tags))
        return str(answer["QueueUrl"])

    async def send_entries(self, url: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Send up to 10 messages as they are; those that were not taken as they were sent, by their Id, and why."""
        async with self._calling(url) as client:
            answer = await client.send_message_batch(QueueUrl=url, Entries=list(entries))
        sums = {each["Id"]: each.get("MD5OfMessageBody") for each in answer.get("Successful", [])}
        refused = {each["Id"]: str(each.get("Code", "refused")) for each in answer.get("Failed", [])}
        for entry in entries:
            if entry["Id"] not in refused and sums.get(entry["Id"]) != _md5(str(entry["MessageBody"])):
                refused[entry["Id"]] = "SQS says that it got another body"
        return refused

    async def url_named(self, name: str) -> str:
        """The URL of the queue with this name, in this account and region."""
        async with self._calling(name) as client:
            answer = await client.get_queue_url(QueueName=name)
        return str(answer["QueueUrl"])

    async def sources_of(self, url: str) -> list[str]:
        """The URLs of the queues whose dead letters come to this one; 1,000 at most."""
        async with self._calling(url) as client:
            answer = await client.list_dead_letter_source_queues(QueueUrl=url)
        return [str(each) for each in answer.get("queueUrls", [])]

    async def close(self) -> None:
        """Close the client's connections."""
        self._client = None
        await self._open.aclose()

    @asynccontextmanager
    async def _calling(self, url: str, *, wait: float = 0) -> AsyncIterator[Any]:
        """The client, with what it raises turned into errors of ours, which hold no account and no secret."""
        from botocore import exceptions

        name, within = queue_name(url) or url, wait + CALL
        try:
            if self._client is None:
                self._client = await self._connect()
            async with asyncio.timeout(within):
                yield self._client
        except exceptions.ClientError as error:
            if self._client is not None and isinstance(error, self._client.exceptions.QueueDoesNotExist):
                raise QueueNotFound(f"there is no queue {name!r} at this endpoint and account") from error
            raise _refusal(name, error.response.get("Error", {})) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise QueueRefused("no AWS credentials were found: set AWS_ACCESS_KEY_ID or a role") from error
        except exceptions.ProfileNotFound as error:
            raise QueueRefused("AWS_PROFILE names a profile that does not exist on this machine") from error
        except TimeoutError as error:
            raise QueueUnavailable(f"SQS does not answer for queue {name!r} within {within:g} s") from error
        except (exceptions.BotoCoreError, OSError) as error:
            raise QueueUnavailable(f"SQS does not answer for queue {name!r}: {type(error).__name__}") from error

    async def _connect(self) -> Any:
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        config = AioConfig(
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=CONNECT,
            read_timeout=LONGEST_WAIT + READ,
            max_pool_connections=10,
        )
        return await self._open.enter_async_context(
            get_session().create_client("sqs", config=config, **_place(self._url))
        )


def _place(url: str) -> dict[str, str]:
    """Where a client for this queue connects, as far as its URL says more than the SDK knows."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    labels = host.split(".")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return {"region_name": labels[1] if labels[0] == "sqs" else region or "us-east-1"}
    place = {"endpoint_url": f"{parts.scheme}://{parts.netloc}", "region_name": region or "us-east-1"}
    if host in _LOCAL and "AWS_ACCESS_KEY_ID" not in os.environ and "AWS_PROFILE" not in os.environ:
        # A server on this machine has no accounts, and the SDK would not send a request without credentials.
        place |= {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    return place


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _refusal(name: str, error: Mapping[str, Any]) -> QueueRefused | QueueUnavailable:
    code = str(error.get("Code", ""))
    if "Throttl" in code or code in (
        "ServiceUnavailable",
        "InternalFailure",
        "InternalError",
        "RequestTimeout",
        "500",
        "503",
    ):
        return QueueUnavailable(f"SQS does not serve queue {name!r} now: {code}")
    return QueueRefused(f"SQS refuses this for queue {name!r}: {code}")


def _message(found: Mapping[str, Any]) -> Message:
    system = found.get("Attributes") or {}
    attributes = {
        name: str(value.get("StringValue", "(binary)"))
        for name, value in (found.get("MessageAttributes") or {}).items()
    }
    sent = system.get("SentTimestamp")
    return Message(
        found["MessageId"],
        found["ReceiptHandle"],
        found.get("Body", ""),
        attributes,
        int(system.get("ApproximateReceiveCount", 0)),
        datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
        _original(found),
    )


def _original(found: Mapping[str, Any]) -> dict[str, Any]:
    """What of a message its body does not say, as JSON can hold it."""
    attributes = {name: _typed(value) for name, value in (found.get("MessageAttributes") or {}).items()}
    system = {name: value for name, value in (found.get("Attributes") or {}).items() if name != "SenderId"}
    return {"attributes": attributes, "system": system}


def _typed(value: Mapping[str, Any]) -> dict[str, str]:
    kept = {"DataType": str(value.get("DataType", "String"))}
    if "BinaryValue" in value:
        return {**kept, "BinaryValue": base64.b64encode(value["BinaryValue"]).decode()}
    return {**kept, "StringValue": str(value.get("StringValue", ""))}


def _attributes(found: Mapping[str, str], url: str) -> QueueAttributes:
    policy = json.loads(found.get("RedrivePolicy") or "{}")
    return QueueAttributes(
        arn=found.get("QueueArn", ""),
        visible=int(found.get("ApproximateNumberOfMessages", 0)),
        in_flight=int(found.get("ApproximateNumberOfMessagesNotVisible", 0)),
        delayed=int(found.get("ApproximateNumberOfMessagesDelayed", 0)),
        visibility_timeout=int(found.get("VisibilityTimeout", 30)),
        retention=int(found.get("MessageRetentionPeriod", 345600)),
        is_fifo=found.get("FifoQueue") == "true" or url.endswith(".fifo"),
        dead_letter_arn=policy.get("deadLetterTargetArn"),
        max_receive_count=int(policy["maxReceiveCount"]) if "maxReceiveCount" in policy else None,
    )
