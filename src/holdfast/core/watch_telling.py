"""What people are told of watched tables: titles and lines, from names and counts only."""

from datetime import datetime

from holdfast.core.incident import Finding
from holdfast.core.telling import many
from holdfast.core.watch import Watch

STUCK, BLIND, UNSENT = KINDS = ("watched_rows_stuck", "watch_blind", "watch_unsent")


def stuck(watch: Watch, stale: int, rescued: int, given_up: int) -> Finding | None:
    """Rows that are stuck now, and those that were rescued or given up within the hour; None where there are none.

    It is over once an hour has passed without any.
    """
    if not (stale or rescued or given_up):
        return None
    lines = [["where", watch.table], ["means", f"no sign of life for {watch.stale_after:g} s while running"]]
    if stale:
        lines.append(["stuck now", many(stale, "row")])
    if rescued:
        lines.append([f"made {watch.queued} within the hour", many(rescued, "row")])
    if given_up:
        lines.append([f"made {watch.failed} within the hour", many(given_up, "row")])
    details = {"lines": lines, "command": "holdfast watch list"}
    level = 1 if given_up or (watch.action == "alert" and stale) else 0
    arrived = max(stale, rescued + given_up)
    return Finding(STUCK, watch.name, _title(watch, stale, rescued, given_up), arrived, 1, details, level)


def _title(watch: Watch, stale: int, rescued: int, given_up: int) -> str:
    if given_up:
        return f"{many(given_up, 'row')} of {watch.table} got stuck too often, now {watch.failed}"
    if rescued:
        return f"{many(rescued, 'row')} of {watch.table} got stuck, now {watch.queued} again"
    return f"{many(stale, 'row')} of {watch.table} stuck"


def blind(watch: Watch, why: str, since: datetime | None) -> Finding:
    """A table that cannot be looked at."""
    return _blocked(watch, f"Table {watch.table} cannot be looked at", why, since)


def refused(watch: Watch, why: str, since: datetime | None) -> Finding:
    """A table that does not let rows be taken back: a constraint or a trigger of it says no."""
    return _blocked(watch, f"Table {watch.table} refuses to let rows be taken back", why, since)


def _blocked(watch: Watch, title: str, why: str, since: datetime | None) -> Finding:
    lines = [["where", watch.table], ["why", why], ["means", "rows of it that are stuck stay stuck"]]
    if since is not None:
        lines.append(["since", since.strftime("%Y-%m-%d %H:%M UTC")])
    return Finding(BLIND, watch.name, title, 1, 1, {"lines": lines, "command": "holdfast watch check"})


def unsent(watch: Watch, count: int, since: datetime | None, why: str) -> Finding:
    """Messages of rescued rows that SQS does not take."""
    lines = [["where", watch.table], ["waiting", many(count, "message")], ["why", why]]
    if since is not None:
        lines.append(["since", since.strftime("%Y-%m-%d %H:%M UTC")])
    details = {"lines": lines, "command": "holdfast watch list"}
    title = f"{many(count, 'message')} for rescued rows of {watch.table} cannot be sent"
    return Finding(UNSENT, watch.name, title, 1, 1, details)
