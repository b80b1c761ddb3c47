"""Whether an instance should get requests, decided from its last ping of the ledger: no I/O, no clock."""

from dataclasses import dataclass
from enum import StrEnum

#: Seconds for which a ping counts.
FRESH = 6.0


class NotReady(StrEnum):
    """Why an instance is not ready, as anybody may know it: no address, no text of an error."""

    STARTING = "starting"
    DRAINING = "draining"
    STALE = "check_is_stale"
    UNAVAILABLE = "database_unavailable"
    SCHEMA = "schema_mismatch"
    ERROR = "database_error"


IN_WORDS = {
    NotReady.STARTING: "it has not answered yet: this process has just started",
    NotReady.STALE: "it has not been asked for a while: this process is too busy, or stuck",
    NotReady.UNAVAILABLE: "it does not answer",
    NotReady.SCHEMA: "it lacks what this version needs; run: holdfast migrate up",
    NotReady.ERROR: "it answers with an error; see the log",
}


@dataclass(frozen=True)
class Ping:
    """One ping that has ended: when (monotonic seconds), what was wrong (None: nothing), how long it took."""

    at: float
    problem: NotReady | None
    round_trip: float | None = None


def judge_ping(last: Ping | None, now: float) -> NotReady | None:
    """Whether the ledger answers at `now`; None is yes."""
    if last is None:
        return NotReady.STARTING
    if now - last.at >= FRESH:
        return NotReady.STALE
    return last.problem


def judge_readiness(
    last: Ping | None, now: float, schema: tuple[int | None, int], *, draining: bool = False, database: bool = False
) -> NotReady | None:
    """Why an instance is not ready; None is ready: it has started, the schema serves it, and it is not draining.

    schema: the ledger's level as it was seen last, and ours. A newer one serves us while programs are replaced. An
    outage of the database is no reason, unless `database` asks for it: every instance would be taken out at once.
    """
    if draining:
        return NotReady.DRAINING
    if database:
        return judge_ping(last, now)
    if last is not None and last.problem is NotReady.SCHEMA:
        return NotReady.SCHEMA
    seen, ours = schema
    if seen is None:
        return NotReady.STARTING if last is None else last.problem
    return None if seen >= ours else NotReady.SCHEMA
