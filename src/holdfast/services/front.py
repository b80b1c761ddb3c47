"""Where in the queue a worker's next claim begins: behind what it claimed last, or at the front.

Behind the last claim lie no dead entries of jobs that have left the queue. At the front stand newcomers that are more
urgent, and jobs that were given back; it is looked at about each second, and before a worker believes that there is no
more. Where the front is slow, since somebody holds an old snapshot open, it is looked at seldom (`front_pause`).
"""

import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from holdfast.core.pacing import front_pause
from holdfast.postgres.calls import Claimed, Floor

#: Seconds after which a claim begins at the front, in any case.
EVERY = 1.0
#: How much slower the quickest claim may have been, with each that does not begin at the front: where all are slow by
#: now (the network, large arguments), the front is not to blame.
FORGETS = 1.25


class Front:
    """Of one worker. Times in seconds."""

    def __init__(self) -> None:
        self._floor: Floor | None = None
        self.looked_at = float("-inf")
        self._pause = self._took = 0.0
        self._quickest = float("inf")

    def begin(self) -> Floor | None:
        """Where the next claim begins; None is the front."""
        return self._floor if time.monotonic() - self.looked_at < max(EVERY, self._pause) else None

    def answered(self, floor: Floor | None, asked_at: float) -> float:
        """A claim that was asked for then has its answer; how long that took. Slow once is no reason: twice is."""
        took = time.monotonic() - asked_at
        self._quickest = min(self._quickest * (1 if floor is None else FORGETS), took)
        if floor is None:
            self.looked_at, self._pause = asked_at, front_pause(min(took, self._took), quickest=self._quickest)
            self._took = took
        return took

    def wait(self) -> float:
        """How long until the front may be looked at again; 0: now."""
        return max(self.looked_at + self._pause - time.monotonic(), 0.0)

    def go_on_behind(self, jobs: Sequence[Claimed], *, is_full: bool) -> None:
        """These were claimed. Where there was no more, the next claim begins at the front, unless that is slow."""
        if is_full or self._pause > 0:
            self._floor = _behind(jobs) or self._floor
        else:
            self._floor = None


def place(job: Claimed) -> tuple[int, datetime, UUID]:
    """Where a job stands in the ledger's order."""
    return job.priority, job.run_at, job.id


def _behind(jobs: Sequence[Claimed]) -> Floor | None:
    """Behind the last of them that stands in the ledger's order: those with keys wait in lines of their own."""
    plain = (job for job in jobs if job.group_key is None and job.limit_key is None)
    last = max(plain, key=place, default=None)
    return None if last is None else Floor(last.priority, last.run_at, last.id)
