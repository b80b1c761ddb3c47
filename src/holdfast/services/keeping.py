"""Keeping messages of a dead-letter queue in the ledger: what they are about, and whole what is to be deleted."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from uuid import UUID

from holdfast.core.bell import read_bell
from holdfast.core.letters import describe
from holdfast.core.payload import is_storable
from holdfast.postgres.calls import Call
from holdfast.postgres.dead_letters import NewLetter, capture_dead_letters, note_dead_letters
from holdfast.postgres.ledger import AsyncLedger
from holdfast.sqs.client import Message
from holdfast.sqs.sending import MARK

#: Characters of a body that are kept as a copy; of a captured message all are.
MOST_BODY = 262_144


class Keeping:
    """Keeps messages of one queue; `new` counts those that were not known. `only`: the ids of those that are meant.

    `identity`: the name of what says which job a message is about.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        queue: str,
        new_id: Callable[[], UUID],
        only: Collection[str] | None = None,
        *,
        identity: str | None = None,
    ) -> None:
        self._ledger, self._queue, self._new_id, self._only = ledger, queue, new_id, only
        self._identity = identity
        self.new = 0

    async def keep(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Those that need not stay in SQS: they are in the ledger as they came, or bells, which say nothing there.

        What Postgres cannot hold (NUL) is noted, and stays.
        """
        bells, whole, other = list[Message](), list[Message](), list[Message]()
        for each in messages:
            if self._only is not None and each.id not in self._only:
                continue
            if read_bell(each.body) is not None:
                bells.append(each)
            elif is_storable("".join([each.body, *each.attributes.values()])):
                whole.append(each)
            else:
                other.append(each)
        if whole:
            kept = [replace(self._new_letter(each), body=each.body, original=each.original) for each in whole]
            await self._count(capture_dead_letters(self._queue, kept))
        if other:
            noted = [self._new_letter(each) for each in other]
            await self._count(note_dead_letters(self._queue, noted, complete=False))
        return [*whole, *bells]

    def _new_letter(self, message: Message) -> NewLetter:
        return new_letter(self._new_id(), self._queue, message, self._identity)

    async def _count(self, call: Call[int]) -> None:
        new = await self._ledger.one(call)  # not `+= await`: lanes run at once, and each would forget the others'
        self.new += new


def new_letter(id: UUID, queue: str, message: Message, identity: str | None = None) -> NewLetter:
    """What is kept of a message. `identity`: the name of what says which job it is about."""
    about = describe(queue, message.body, message.attributes, identity)
    return NewLetter(
        id,
        message.id,
        about.job_id,
        about.kind,
        about.cause,
        about.fingerprint,
        message.body.replace("\x00", "")[:MOST_BODY],
        {name: value for name, value in message.attributes.items() if name != MARK},
        message.received,
        message.sent_at,
        earlier=_earlier(message.attributes.get(MARK)),
    )


def _earlier(mark: str | None) -> UUID | None:
    try:
        return UUID(mark) if mark else None
    except ValueError:
        return None
