"""A bell as a message: it says "queue Q has work", and nothing else; and which queue of SQS it goes to."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: Characters; more than any bell has, whose queue's name has up to 200: a longer message is somebody else's.
MOST = 4000


class Bell(NamedTuple):
    """A bell for a queue of the ledger. `traceparent`: the trace (W3C) of an enqueueing that rang it."""

    queue: str
    traceparent: str | None = None


@dataclass(frozen=True)
class BellRoutes:
    """Which queue of SQS the bells of a queue go to: its own in `by_queue`, else `default`, else none.

    >>> BellRoutes("https://sqs/1/bells", {"mail": "https://sqs/1/mail-bells"}).url_of("mail")
    'https://sqs/1/mail-bells'
    """

    default: str | None = None
    by_queue: Mapping[str, str] = field(default_factory=dict)

    def url_of(self, queue: str) -> str | None:
        """The queue of SQS for the bells of a queue."""
        return self.by_queue.get(queue, self.default)

    def urls(self, queues: Iterable[str] | None = None) -> tuple[str, ...]:
        """Those for the bells of these queues, or all, each once and sorted."""
        found = [self.default, *self.by_queue.values()] if queues is None else map(self.url_of, queues)
        return tuple(sorted({url for url in found if url is not None}))

    def __bool__(self) -> bool:
        return bool(self.urls())


def make_bell(queue: str) -> str:
    """The body of a bell, in ASCII: SQS does not take every character.

    >>> read_bell(make_bell("mail"))
    'mail'
    """
    return json.dumps({"holdfast": "bell", "queue": queue})


def read_bell(body: str) -> str | None:
    """The queue that a bell is for; None where the message is not a bell of ours.

    >>> read_bell('{"order": 17}') is None
    True
    """
    try:
        found = json.loads(body) if len(body) <= MOST else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("holdfast") != "bell":
        return None
    queue = found.get("queue")
    return queue if isinstance(queue, str) and queue else None
