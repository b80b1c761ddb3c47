"""Sending a message again as it was: its body, its attributes with their types, its group.

One attribute is added, `holdfast_letter`, with the id of the dead letter that it was: when it comes back, that tells
which one. A message that has all ten attributes that SQS allows goes without.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: The attribute that tells which dead letter a message was.
MARK = "holdfast_letter"
MOST_ATTRIBUTES = 10
#: Entries of a batch call, and bytes of all of them.
BATCH, MOST_BYTES = 10, 1_048_576


def entry_of(
    number: int, letter: str, life: int, body: str, original: Mapping[str, Any], *, fifo: bool
) -> dict[str, Any]:
    """A message as an entry of a batch; `life` counts how often it came back.

    >>> entry_of(0, "7", 0, "hello", {}, fifo=False)["MessageAttributes"]
    {'holdfast_letter': {'DataType': 'String', 'StringValue': '7'}}
    """
    attributes = {name: _value(each) for name, each in (original.get("attributes") or {}).items() if name != MARK}
    if len(attributes) < MOST_ATTRIBUTES:
        attributes[MARK] = {"DataType": "String", "StringValue": letter}
    system = original.get("system") or {}
    entry: dict[str, Any] = {"Id": str(number), "MessageBody": body, "MessageAttributes": attributes}
    if system.get("MessageGroupId") or fifo:
        entry["MessageGroupId"] = system.get("MessageGroupId") or letter
    if fifo:
        entry["MessageDeduplicationId"] = f"{letter}-{life}"
    if system.get("AWSTraceHeader"):
        header = {"DataType": "String", "StringValue": system["AWSTraceHeader"]}
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": header}
    return entry


def batches(entries: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Entries in batches that SQS takes: 10, and a megabyte, at most."""
    batch: list[Mapping[str, Any]] = []
    for entry in entries:
        if batch and (len(batch) == BATCH or sum(map(_size, [*batch, entry])) > MOST_BYTES):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def _value(kept: Mapping[str, str]) -> dict[str, Any]:
    if "BinaryValue" in kept:
        return {"DataType": kept["DataType"], "BinaryValue": base64.b64decode(kept["BinaryValue"])}
    return {"DataType": kept["DataType"], "StringValue": kept["StringValue"]}


def _size(entry: Mapping[str, Any]) -> int:
    attributes = entry["MessageAttributes"].items()
    return len(entry["MessageBody"].encode()) + sum(
        len(name)
        + len(each["DataType"])
        + len(each.get("StringValue", "").encode())
        + len(each.get("BinaryValue", b""))
        for name, each in attributes
    )
