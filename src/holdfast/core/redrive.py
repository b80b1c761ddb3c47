"""Redrives: what is done next with one, as a decision over how far it is.

Letters are sent at a rate, at most so many at a time. After a canary of a few it waits until their outcomes are known:
if one of them is dead again with the cause that it had, the others would be too, and nothing more is sent.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

#: Letters that are sent in one step; seconds for which outcomes are awaited once all is sent, and between two looks.
STEP = 200
WATCH = 600.0
LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Redrive:
    """How far a redrive is: counts of its letters by status; times in seconds.

    `same`: those that returned with the cause that they had; `began_with` were sent before it began at its rate,
    `began_ago`.
    """

    id: UUID
    status: str
    requested_by: str
    target: str | None
    canary: int
    canary_wait: float
    canary_done: bool
    rate: float | None
    total: int
    waiting: int
    sending: int
    sent: int
    succeeded: int
    returned: int
    same: int
    skipped: int
    failed: int
    began_with: int
    began_ago: float
    canary_ago: float | None

    @property
    def tried(self) -> int:
        """Letters that were sent, whatever became of them."""
        return self.sent + self.succeeded + self.returned


@dataclass(frozen=True)
class Send:
    """Send up to `most` letters now."""

    most: int


@dataclass(frozen=True)
class Wait:
    """Look again in `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Change:
    """Another status, and why."""

    action: Literal["check", "go_on", "pause", "watch", "finish", "stop"]
    reason: str


Step = Send | Wait | Change


def next_step(redrive: Redrive) -> Step:
    """What to do with a redrive that is neither paused nor at its end.

    >>> job = UUID(int=1)
    >>> next_step(Redrive(job, "running", "ada", None, 0, 60, False, None, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, None))
    Send(most=9)
    """
    if redrive.same:
        return Change("stop", f"{redrive.same} of {redrive.tried} came back with the cause that they had")
    match redrive.status:
        case "checking":
            return _check(redrive)
        case "watching":
            return _watch(redrive)
        case _:
            return _send(redrive)


def _send(redrive: Redrive) -> Step:
    left = redrive.waiting + redrive.sending
    if not left:
        return (
            Change("watch", "all is sent; outcomes are awaited") if redrive.sent else Change("finish", _result(redrive))
        )
    most = min(left, STEP)
    if redrive.canary and not redrive.canary_done:
        most = min(most, redrive.canary - redrive.tried)
        if most <= 0:
            return Change("check", f"the first {redrive.tried} are sent; their outcomes are awaited")
    if redrive.rate is None:
        return Send(most)
    may = int(redrive.rate * redrive.began_ago) + 1 - (redrive.tried - redrive.began_with)
    return Send(min(most, may)) if may > 0 else Wait(min((1 - may) / redrive.rate, 5.0))


def _check(redrive: Redrive) -> Step:
    if not redrive.sent and not redrive.returned:
        return Change("go_on", f"the first {redrive.succeeded:,} succeeded")
    if not redrive.sent:
        return Change("pause", f"{redrive.returned} of the first {redrive.tried} came back, with another cause")
    if (redrive.canary_ago or 0.0) < redrive.canary_wait:
        return Wait(LOOK)
    return Change(
        "pause", f"of the first {redrive.tried}, {redrive.succeeded} succeeded and {redrive.returned} came back; of"
        f" {redrive.sent} nothing is known after {redrive.canary_wait:g} s",
    )  # fmt: skip


def _watch(redrive: Redrive) -> Step:
    if redrive.sent and (redrive.canary_ago or 0.0) < WATCH:
        return Wait(LOOK)
    return Change("finish", _result(redrive))


def _result(redrive: Redrive) -> str:
    counts = (
        (redrive.succeeded, "succeeded"),
        (redrive.returned, "came back"),
        (redrive.sent, "sent, outcome not known"),
        (redrive.skipped, "skipped"),
        (redrive.failed, "failed"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in counts if count) or "there was nothing to send"
