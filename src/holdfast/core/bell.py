"""A bell as a message: it says "queue Q has work", and nothing else."""

import json

#: More than any bell has: a longer message is somebody else's.
MOST = 1000


def make_bell(queue: str) -> str:
    """The body of a bell.

    >>> read_bell(make_bell("mail"))
    'mail'
    """
    return json.dumps({"holdfast": "bell", "queue": queue}, ensure_ascii=False)


def read_bell(body: str) -> str | None:
    """The queue that a bell is for; None where the message is not a bell of ours.

    >>> read_bell('{"order": 17}') is None
    True
    """
    try:
        found = json.loads(body) if len(body) <= MOST else None
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("holdfast") != "bell":
        return None
    queue = found.get("queue")
    return queue if isinstance(queue, str) and queue else None
