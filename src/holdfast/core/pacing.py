"""When to claim, and how many: never more than there are free slots, no faster than there is work."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClaimPlan:
    """How many jobs to ask for now, and else how long to wait for a bell or a free slot, in seconds."""

    ask: int
    wait: float | None


def plan_claim(
    *, free_slots: int, batch: int, last_was_full: bool, rung: bool, since_claim: float, poll: float
) -> ClaimPlan:
    """Ask when there is room and a reason: a bell, a full answer before (more is waiting), or the poll interval.

    `wait` is None when only a slot that becomes free can change anything.

    >>> plan_claim(free_slots=3, batch=100, last_was_full=False, rung=True, since_claim=0.0, poll=1.0)
    ClaimPlan(ask=3, wait=0.0)
    """
    if free_slots <= 0:
        return ClaimPlan(0, None)
    if rung or last_was_full or since_claim >= poll:
        return ClaimPlan(min(free_slots, batch), 0.0)
    return ClaimPlan(0, poll - since_claim)


def most_ahead(*, slots: int, round_trip: float, ran: float) -> int:
    """How many claimed jobs may wait for a slot: thrice as many as end before a claim's answer, at most the slots.

    With just as many, two slots in three found nobody waiting, since answers come unevenly. round_trip: of claims, and
    ran: of handlers, both in seconds. None while handlers run for long, since a job that waits here is hidden from
    workers that are idle.

    >>> most_ahead(slots=100, round_trip=0.003, ran=0.03), most_ahead(slots=100, round_trip=0.003, ran=1.0)
    (30, 0)
    """
    return min(slots, int(3 * slots * round_trip / ran)) if ran > 0 else slots


def front_pause(took: float, *, quickest: float) -> float:
    """Seconds from one claim at the front of the queue to the next, by how long the last one and the quickest took.

    Under a snapshot that is held open, a claim at the front walks over all that has left the queue since. Then it is
    rare, so that this takes a twentieth of the time. Where it is as quick as others, nothing need be spared.

    >>> front_pause(0.108, quickest=0.1), front_pause(0.112, quickest=0.002)
    (0.0, 2.0)
    """
    return min(20 * max(0.0, took - quickest - 0.01), 10.0)


def most_to_ask(most: int, *, batch: int, answered: bool) -> int:
    """How many the next claim may ask for, after one for `most`.

    Half as many where no answer came: it may have been too large for its network, and jobs whose claim is lost over and
    over would never run. Then step by step up to `batch` again.

    >>> most_to_ask(100, batch=100, answered=False)
    50
    >>> most_to_ask(50, batch=100, answered=True)
    62
    """
    return min(batch, most + max(1, most // 4)) if answered else max(1, most // 2)
