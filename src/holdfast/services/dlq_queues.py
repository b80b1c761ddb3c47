"""Which dead-letter queues there are to look at, and where the messages of each came from."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.errors import QueueError, QueueNotFound
from holdfast.sqs.client import Sqs, queue_name


@dataclass(frozen=True)
class Sources:
    """Where to look: dead-letter queues themselves, and queues whose own are found by their redrive policies.

    `captured`: the names of dead-letter queues whose messages are moved into the ledger. `identity`: the attribute, or
    field of a body, that says which job a message is about.
    """

    dead_letter_urls: Sequence[str] = ()
    source_urls: Sequence[str] = ()
    captured: Collection[str] = ()
    identity: str | None = None

    @property
    def any_url(self) -> str | None:
        """One of them, for the region and endpoint of all."""
        return next(iter([*self.dead_letter_urls, *self.source_urls]), None)

    @property
    def names(self) -> set[str]:
        """All that was named: queues that are looked at, and that are looked through."""
        return {*(queue_name(url) for url in [*self.dead_letter_urls, *self.source_urls]), *self.captured}


@dataclass(frozen=True)
class Found:
    """`urls` of dead-letter queues; `sources`: by the name of one, whose letters come to it; `problems` by name."""

    urls: Sequence[str]
    sources: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


async def _nothing() -> None:
    pass


async def find_queues(sqs: Sqs, sources: Sources, between: Callable[[], Awaitable[None]] = _nothing) -> Found:
    """The dead-letter queues to look at, and what could not be found out. `between` runs after each call."""
    urls, problems, came_from = list(sources.dead_letter_urls), dict[str, str](), dict[str, str]()
    for source in sources.source_urls:
        try:
            arn = (await sqs.attributes(source)).dead_letter_arn
            if arn is not None:
                urls.append(await sqs.url_of(arn))
                came_from[queue_name(urls[-1])] = source
        except QueueError as error:
            problems[queue_name(source)] = str(error)
        await between()
    if not problems:
        problems = _unknown(sources, {queue_name(url) for url in urls})
    return Found(list(dict.fromkeys(urls)), came_from, problems)


async def source_of(sqs: Sqs, url: str, arn: str | None, known: Mapping[str, str]) -> str:
    """The queue to send a dead letter back to: what SQS said of it, or the redrive policies say.

    Raises `QueueError` where none of them tells, or more than one queue could be meant.
    """
    if arn:
        return await sqs.url_of(arn)
    if queue_name(url) in known:
        return known[queue_name(url)]
    try:
        found = await sqs.sources_of(url)
    except QueueError:
        found = []
    if len(found) != 1:
        which = f"{len(found)} queues have" if found else "no queue is known that has"
        raise QueueNotFound(f"{which} {queue_name(url)!r} for their dead letters; say where to send them: --to QUEUE")
    return found[0]


def _unknown(sources: Sources, names: Collection[str]) -> dict[str, str]:
    """A queue that was to be captured and is not found would be left to its retention, and nobody would know."""
    why = "HOLDFAST_DLQ_CAPTURE names it, and it is none of the dead-letter queues that are watched"
    return dict.fromkeys(sorted(set(sources.captured) - set(names)), why)
