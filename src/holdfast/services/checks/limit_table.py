"""How is the table of the rate limits' counts: are its updates cheap, does anything keep them from it, is it full?"""

from datetime import timedelta

from holdfast.core.findings import Finding, Verdict
from holdfast.errors import DatabaseError
from holdfast.postgres.rate_limit import TableHealth, rate_limit_table
from holdfast.services.checks.deployment import Deployment

_COMPONENT = "rate limit table"
_HOT, _OLD, _ROOM = "limits.hot_updates", "limits.old_transaction", "limits.room"
#: The lines that are told, and the component of each.
LINES = dict.fromkeys((_HOT, _OLD, _ROOM), _COMPONENT)
#: Below this share of updates that were HOT, each costs an index entry and its cleaning.
LEAST_HOT = 0.5
#: Dead versions of hot rows cannot be removed while a transaction is older than they are.
OLD = timedelta(minutes=1)


async def check_limit_table(deployment: Deployment) -> list[Finding]:
    """Look at the table once."""
    try:
        table = await deployment.ledger.one(rate_limit_table())
    except DatabaseError:
        return [Finding(id, _COMPONENT, Verdict.SKIP, "needs the table rate_limit_requests") for id in LINES]
    return judge(table)


def judge(table: TableHealth) -> list[Finding]:
    """What that look means."""
    return [_hot(table), _old(table), _room(table)]


def _hot(table: TableHealth) -> Finding:
    code = f"at least {LEAST_HOT:.0%} of its updates are HOT"
    if table.hot_ratio is None:
        return Finding(_HOT, _COMPONENT, Verdict.PASS, "not updated yet", code)
    found = f"{table.hot_ratio:.0%} of its updates were HOT, {table.dead_rows:,} dead row{'s' * (table.dead_rows != 1)}"
    if table.hot_ratio >= LEAST_HOT:
        return Finding(_HOT, _COMPONENT, Verdict.PASS, found, code)
    fix = "run the SQL VACUUM holdfast.rate_limit_requests; do old transactions, or an index of yours, keep it from it?"
    return Finding(_HOT, _COMPONENT, Verdict.WARN, found, code, fix)


def _old(table: TableHealth) -> Finding:
    code = f"no transaction is open for longer than {OLD.total_seconds():.0f} s"
    age = table.oldest_transaction
    if age is None:
        return Finding(_OLD, _COMPONENT, Verdict.PASS, "no transaction is open", code)
    found = f"the oldest transaction, of process {table.oldest_pid}, is open for {age.total_seconds():.0f} s"
    if age <= OLD:
        return Finding(_OLD, _COMPONENT, Verdict.PASS, found, code)
    fix = (
        f"see what it does: SELECT * FROM pg_stat_activity WHERE pid = {table.oldest_pid};"  # noqa: S608
        f" end it: SELECT pg_terminate_backend({table.oldest_pid})"
    )
    return Finding(_OLD, _COMPONENT, Verdict.WARN, f"{found}, which slows hot rows", code, fix)


def _room(table: TableHealth) -> Finding:
    code = "each identity has a row of its own"
    size = (table.table_bytes + table.index_bytes) / 2**20
    noun = "identity" if table.identities == 1 else "identities"
    found = f"{table.identities:,} {noun}, {size:.1f} MB"
    if not table.is_full:
        return Finding(_ROOM, _COMPONENT, Verdict.PASS, found, code)
    fix = (
        "is somebody inventing identities? See: holdfast limits top; most_identities of RateLimiter is how many may be"
    )
    return Finding(_ROOM, _COMPONENT, Verdict.WARN, f"{found}: full, so new ones share places", code, fix)
