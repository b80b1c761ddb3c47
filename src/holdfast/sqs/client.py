"""The seam to SQS: the few calls that Holdfast makes, each with a deadline, with errors of our own.

The SDK's usual chain gives credentials, region and endpoint. Its defaults can wait for five minutes on an endpoint that
hangs; ours are the standard retries with three attempts, 3 s to connect, and 10 s for a call with its retries, beyond
the wait that was asked for. A queue's own address decides where a client connects, unless it is one of AWS's.
What carries the calls out is one of two clients (connection.py).
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from holdfast.errors import ConfigurationError, QueueError, QueueRefused, QueueUnavailable
from holdfast.sqs.address import is_sdk_s, region_of
from holdfast.sqs.connection import Connect, Connection, any_connection
from holdfast.sqs.translation import translated, understood

#: Entries of a batch call; seconds to read beyond a wait, and for a call with all its retries.
BATCH = 10
READ = 5
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


@dataclass(frozen=True)
class MoveTask:
    """A task of SQS that moves all messages of a dead-letter queue. `handle`: of one that runs, to cancel it.

    status: RUNNING, COMPLETED, CANCELLING, CANCELLED or FAILED; `total` is what was there when it began, as SQS counts.
    """

    status: str
    moved: int
    total: int | None
    target: str | None
    why: str
    started_at: datetime | None
    handle: str | None

    @property
    def is_running(self) -> bool:
        """Whether it still moves messages."""
        return self.status in ("RUNNING", "CANCELLING")


def queue_name(url: str) -> str:
    """The queue's name: what may be shown of its URL, which holds an account's id.

    >>> queue_name("https://sqs.eu-west-1.amazonaws.com/123456789012/mail")
    'mail'
    """
    return unquote(urlsplit(url).path.rpartition("/")[2])


def check_queue_url(url: str, *, setting: str, fifo: bool) -> None:
    """Raise `ConfigurationError` for what is no queue's URL, or (unless `fifo`) that of a FIFO queue."""
    if not _is_queue_url(url):
        shown = re.sub(r"//[^/]*@", "//...@", url)[:100]
        raise ConfigurationError(
            f"{setting} is {shown!r}, which is no queue's URL; it looks like"
            " https://sqs.eu-west-1.amazonaws.com/123456789012/name"
        )
    if url.endswith(".fifo") and not fifo:
        raise ConfigurationError(
            f"{setting} names the FIFO queue {queue_name(url)!r}: a bell is deleted before its job is claimed, which"
            " frees its group at once, so FIFO adds nothing but cost; take a standard queue (group_key keeps order)"
        )


def _is_queue_url(url: str) -> bool:
    """Host, perhaps a port, and a path: neither credentials nor a query, and no space that a file or a shell left."""
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_bare = "@" not in parts.netloc and not parts.query and not parts.fragment and not re.search(r"\s", url)
    return parts.scheme in ("http", "https") and has_place and is_bare and bool(queue_name(url))


@dataclass(frozen=True)
class NewMessage:
    """A message to send. `attributes` are texts by name; `trace` is an X-Ray header, passed on as AWSTraceHeader."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    trace: str | None = None


@dataclass(frozen=True)
class Refused:
    """An entry of a batch that SQS refused. `is_ours`: sent again as it is, it is refused again."""

    place: int
    code: str
    is_ours: bool


class Sqs:
    """SQS as seen from one queue's URL: its region and endpoint. Opens its client on first use; `close` when done.

    url: that of a queue, of an endpoint, or "": then the SDK's chain says which endpoint and, without `region`, where.
    wait: the longest wait of a receive, in seconds; 0 for who receives nothing. An answer that is 5 s later than that
    is given up.
    connect: makes the client; by default one of aiobotocore where that is installed, else one of boto3 in threads.
    """

    def __init__(
        self, url: str, *, wait: int = LONGEST_WAIT, connect: Connect | None = None, region: str | None = None
    ) -> None:
        self._place = {**_place(url), **({"region_name": region} if region else {})}
        self._wait = min(wait, LONGEST_WAIT)
        self._connect = connect or any_connection
        self._connection: Connection | None = None
        self._abandoned: set[asyncio.Task[None]] = set()

    async def send(self, url: str, messages: Sequence[str | NewMessage]) -> list[Refused]:
        """Send messages, in batches of 10; those that SQS refused, each by its place in `messages`."""
        refused: list[Refused] = []
        for start in range(0, len(messages), BATCH):
            entries = [
                {"Id": str(number), **_entry(message)} for number, message in enumerate(messages[start : start + BATCH])
            ]
            answer = await self._call(url, "send_message_batch", Entries=entries)
            with understood(queue_name(url)):
                refused += [replace(each, place=start + each.place) for each in _refused(answer, len(entries))]
        return refused

    async def receive(self, url: str, *, wait: int = 0, visibility: int | None = None) -> list[Message]:
        """Up to 10 messages, waiting up to `wait` seconds for the first; `visibility` seconds hidden from others.

        Who is cancelled here, or waits in vain, leaves the call to its end, and what it still brings is given back: cut
        off, it would be handed to a connection that is gone, and stay hidden.
        """
        wait, options = min(wait, self._wait), {} if visibility is None else {"VisibilityTimeout": visibility}
        arguments = {
            "QueueUrl": url,
            "MaxNumberOfMessages": BATCH,
            "WaitTimeSeconds": wait,
            "MessageAttributeNames": ["All"],
            "AttributeNames": ["All"],
            **options,
        }
        asked = asyncio.create_task(self._carry_out(queue_name(url) or url, None, "receive_message", arguments))
        try:
            await asyncio.wait({asked}, timeout=wait + CALL)
        except asyncio.CancelledError:
            self._abandon(url, asked)
            raise
        if not asked.done():
            self._abandon(url, asked)
            raise QueueUnavailable(f"SQS does not answer for queue {queue_name(url)!r} within {wait + CALL:g} s")
        found = asked.result()
        with understood(queue_name(url)):
            return [_message(each) for each in found.get("Messages", [])]

    async def delete(self, url: str, receipts: Sequence[str]) -> list[str]:
        """Delete messages; the receipts that SQS refused."""
        return await self._each(url, "delete_message_batch", receipts, {})

    async def release(self, url: str, receipts: Sequence[str], *, visibility: int = 0) -> list[str]:
        """Give messages back, to be seen again after `visibility` seconds; the receipts that SQS refused."""
        return await self._each(url, "change_message_visibility_batch", receipts, {"VisibilityTimeout": visibility})

    async def attributes(self, url: str) -> QueueAttributes:
        """What SQS says of the queue."""
        answer = await self._call(url, "get_queue_attributes", AttributeNames=["All"])
        with understood(queue_name(url)):
            return _attributes(answer["Attributes"], url)

    async def tags(self, url: str) -> dict[str, str]:
        """The queue's tags."""
        return dict((await self._call(url, "list_queue_tags")).get("Tags") or {})

    async def url_of(self, arn: str) -> str:
        """The URL of the queue with this ARN, in this region."""
        if arn.count(":") != 5:
            raise QueueRefused(f"{arn[:100]!r} is no ARN of a queue")
        *_, account, name = arn.split(":")
        owner = {"QueueName": name, "QueueOwnerAWSAccountId": account}
        answer = await self._carry_out(name, CALL, "get_queue_url", owner)
        return str(answer["QueueUrl"])

    async def url_named(self, name: str) -> str:
        """The URL of this account's queue of that name. Raises `QueueNotFound`."""
        return str((await self._carry_out(name, CALL, "get_queue_url", {"QueueName": name}))["QueueUrl"])

    async def set_attributes(self, url: str, attributes: Mapping[str, str]) -> None:
        """Change settings of a queue."""
        await self._call(url, "set_queue_attributes", Attributes=dict(attributes))

    async def tag(self, url: str, tags: Mapping[str, str]) -> None:
        """Tag a queue."""
        await self._call(url, "tag_queue", Tags=dict(tags))

    async def create(self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """Make a queue, or find the equal one that is there; its URL."""
        wanted = {"QueueName": name, "Attributes": dict(attributes), "tags": dict(tags)}
        answer = await self._carry_out(name, CALL, "create_queue", wanted)
        return str(answer["QueueUrl"])

    async def send_entries(self, url: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Send up to 10 messages as they are; those that were not taken as they were sent, by their Id, and why."""
        answer = await self._call(url, "send_message_batch", Entries=list(entries))
        sums = {each["Id"]: each.get("MD5OfMessageBody") for each in answer.get("Successful", [])}
        refused = {each["Id"]: str(each.get("Code", "refused")) for each in answer.get("Failed", [])}
        for entry in entries:
            if entry["Id"] not in refused and sums.get(entry["Id"]) != _md5(str(entry["MessageBody"])):
                refused[entry["Id"]] = "SQS says that it got another body"
        return refused

    async def sources_of(self, url: str) -> list[str]:
        """The URLs of the queues whose dead letters come to this one; 1,000 at most."""
        answer = await self._call(url, "list_dead_letter_source_queues")
        return [str(each) for each in answer.get("queueUrls", [])]

    async def move_tasks(self, arn: str) -> list[MoveTask]:
        """The last tasks that move messages of this dead-letter queue, the newest first; 10 at most."""
        asked = {"SourceArn": arn, "MaxResults": BATCH}
        answer = await self._carry_out(arn.rpartition(":")[2], CALL, "list_message_move_tasks", asked)
        found = [_move_task(each) for each in answer.get("Results", [])]
        return sorted(found, key=lambda each: each.started_at or datetime.max.replace(tzinfo=UTC), reverse=True)

    async def start_move(self, arn: str, *, target: str | None = None, rate: int | None = None) -> str:
        """Have SQS move all messages of a dead-letter queue back to where they came from, or to the queue `target`.

        Both by their ARNs; `rate` messages a second at most. Its handle.
        """
        options = {"DestinationArn": target, "MaxNumberOfMessagesPerSecond": rate}
        asked = {"SourceArn": arn, **{name: value for name, value in options.items() if value is not None}}
        return str(
            (await self._carry_out(arn.rpartition(":")[2], CALL, "start_message_move_task", asked))["TaskHandle"]
        )

    async def cancel_move(self, arn: str, handle: str) -> None:
        """End such a task; what it has moved stays moved."""
        name = arn.rpartition(":")[2]
        await self._carry_out(name, CALL, "cancel_message_move_task", {"TaskHandle": handle})

    async def close(self) -> None:
        """Let receives that nobody waits for come to their end, within their time, and close the connections."""
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=self._wait + READ)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _each(self, url: str, operation: str, receipts: Sequence[str], options: Mapping[str, Any]) -> list[str]:
        failed: list[str] = []
        for start in range(0, len(receipts), BATCH):
            part = receipts[start : start + BATCH]
            entries = [{"Id": str(number), "ReceiptHandle": receipt, **options} for number, receipt in enumerate(part)]
            answer = await self._call(url, operation, Entries=entries)
            with understood(queue_name(url)):
                failed += [part[each.place] for each in _refused(answer, len(part))]
        return failed

    def _abandon(self, url: str, asked: "asyncio.Task[Mapping[str, Any]]") -> None:
        task = asyncio.get_running_loop().create_task(self._give_back(url, asked))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _give_back(self, url: str, asked: "asyncio.Task[Mapping[str, Any]]") -> None:
        with contextlib.suppress(QueueError):
            receipts = [each["ReceiptHandle"] for each in (await asked).get("Messages", [])]
            if receipts:
                await self.release(url, receipts)

    async def _call(self, url: str, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """A call about the queue at this URL, within its time."""
        return await self._carry_out(queue_name(url) or url, CALL, operation, {"QueueUrl": url, **arguments})

    async def _carry_out(
        self, queue: str, within: float | None, operation: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        if self._connection is None:
            self._connection = self._connect(self._place, read=self._wait + READ)
        with understood(queue), translated(queue, within, self._connection):
            async with asyncio.timeout(within):
                return dict(await self._connection.call(operation, arguments))


def _place(url: str) -> dict[str, str]:
    """Where a client for this queue connects, as far as its URL says more than the SDK knows."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    region = region_of(host) or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    if not host:
        return {}
    if is_sdk_s(host):
        return {"region_name": region}
    place = {"endpoint_url": f"{parts.scheme}://{parts.netloc}", "region_name": region}
    if host in _LOCAL and "AWS_ACCESS_KEY_ID" not in os.environ and "AWS_PROFILE" not in os.environ:
        # A server on this machine has no accounts, and the SDK would not send a request without credentials.
        place |= {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    return place


def _entry(message: str | NewMessage) -> dict[str, Any]:
    if isinstance(message, str):
        return {"MessageBody": message}
    entry: dict[str, Any] = {"MessageBody": message.body}
    if message.attributes:
        entry["MessageAttributes"] = {
            name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()
        }
    if message.trace is not None:
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": message.trace}}
    return entry


def _refused(answer: Mapping[str, Any], count: int) -> list[Refused]:
    """The entries of a batch that were not done, by their places in it: also those of which the answer says nothing."""
    done = {each["Id"] for each in answer.get("Successful", [])}
    failed = {each["Id"]: each for each in answer.get("Failed", [])}
    told = {place: failed.get(str(place), {}) for place in range(count) if str(place) not in done}
    return [
        Refused(place, str(each.get("Code", "not in the answer")), bool(each.get("SenderFault")))
        for place, each in told.items()
    ]


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


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


def _move_task(found: Mapping[str, Any]) -> MoveTask:
    total, started = found.get("ApproximateNumberOfMessagesToMove"), found.get("StartedTimestamp")
    target = found.get("DestinationArn")
    return MoveTask(
        str(found.get("Status", "")),
        int(found.get("ApproximateNumberOfMessagesMoved") or 0),
        None if total is None else int(total),
        None if target is None else str(target).rpartition(":")[2],
        str(found.get("FailureReason") or ""),
        datetime.fromtimestamp(int(started) / 1000, UTC) if started else None,
        found.get("TaskHandle"),
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
        arn=found["QueueArn"],
        visible=int(found.get("ApproximateNumberOfMessages", 0)),
        in_flight=int(found.get("ApproximateNumberOfMessagesNotVisible", 0)),
        delayed=int(found.get("ApproximateNumberOfMessagesDelayed", 0)),
        visibility_timeout=int(found.get("VisibilityTimeout", 30)),
        retention=int(found.get("MessageRetentionPeriod", 345600)),
        is_fifo=found.get("FifoQueue") == "true" or url.endswith(".fifo"),
        dead_letter_arn=policy.get("deadLetterTargetArn"),
        max_receive_count=int(policy["maxReceiveCount"]) if "maxReceiveCount" in policy else None,
    )
