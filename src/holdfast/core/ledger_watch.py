"""What of the ledger itself people must know: jobs that had to be rescued, the brake, rows and transactions in the way.

Read off what the sweeps left and the server says, at a look each few seconds. Rescues are totals that only grow, so a
look compares them with those of the look before, and what was found is kept for a few looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from holdfast.core import telling
from holdfast.core.health import Check, Monitor, Status
from holdfast.core.incident import Finding

SWEEP, COUNTS = "rescue_stale_jobs", "count_events"
#: Looks in a row without a rescue until it is over; seconds that a transaction may be open.
KEPT_FOR = 20
LONGEST_TRANSACTION = 600.0
#: Checks whose warnings are incidents too, if they last, and of which kind; looks in a row until they are.
SLOW = {"ringer": telling.UNHEARD, "queues": telling.NOT_DRAINING}
STRIKES = 4
#: All that is found here.
KINDS = (
    telling.RESCUED, telling.BRAKE, telling.LOCKED, telling.TRANSACTION, telling.UNHEARD, telling.NOT_DRAINING
)  # fmt: skip


@dataclass(frozen=True)
class OldTransaction:
    """The transaction that has been open for longest. `age` in seconds."""

    pid: int
    application: str
    state: str
    age: float


@dataclass(frozen=True)
class Watched:
    """What a look leaves to the next: rescues so far (-1: not known yet), for how many looks those are told of, and
    how many looks in a row each check has warned.
    """

    rescues: int = -1
    kept: int = 0
    slow: Mapping[str, int] | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> "Watched":
        """What `as_json` gave."""
        return cls(**stored) if stored else cls()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def watch(
    before: Watched, monitors: Sequence[Monitor], oldest: OldTransaction | None, checks: Sequence[Check]
) -> tuple[Watched, list[Finding]]:
    """What is found at a look, and what it leaves to the next."""
    left = {monitor.name: monitor.last_result for monitor in monitors}
    rescues = _rescues(left.get(COUNTS, {}).get("totals") or {})
    news = rescues - before.rescues if before.rescues >= 0 else 0
    kept = KEPT_FOR if news > 0 else max(before.kept - 1, 0)
    found = [telling.rescued(news)] if kept else []
    found += _sweep(left.get(SWEEP, {}))
    if oldest is not None and oldest.age > LONGEST_TRANSACTION:
        found.append(telling.transaction(oldest.pid, oldest.application, oldest.state, oldest.age))
    slow = {check.name: check for check in checks if check.status is Status.WARN and check.name in SLOW}
    strikes = {name: (before.slow or {}).get(name, 0) + 1 for name in slow}
    found += [telling.slow(SLOW[name], check) for name, check in slow.items() if strikes[name] >= STRIKES]
    return Watched(rescues, kept, strikes), found


def _rescues(totals: Mapping[str, int]) -> int:
    """Those that cost somebody something: a claim whose answer was lost is given back at no cost."""
    return sum(
        count
        for name, count in totals.items()
        if name.startswith(("rescue/", "crash/")) and not name.endswith("/claim_lost")
    )


def _sweep(left: Mapping[str, Any]) -> list[Finding]:
    found = [telling.brake(cause, workers) for cause, workers in (left.get("held") or {}).items()]
    return found + [telling.locked(**each) for each in left.get("locked_by") or []]
