"""The check of other programs' tables that are watched. No I/O, no clock."""

import shlex
from collections.abc import Sequence

from holdfast.core.health import Check, WatchedTable
from holdfast.core.verdicts import verdict


def judge_watched_tables(tables: Sequence[WatchedTable]) -> Check:
    """Whether they are looked at. One that is not fails: what is stuck there stays stuck."""
    fails, warns = [], []
    for each in tables:
        ago = each.looked_ago
        if ago is None or ago > 10 * each.every + 30:
            way = f"was it taken out? holdfast watch forget {shlex.quote(each.name)}"
            fails.append(f"{each.table}: nobody looks at it any more, {_last_look(ago)} ({way})")
        elif each.problem is not None:
            fails.append(f"{each.table}: {each.problem}")
        if each.stale:
            warns.append(f"{each.table}: {each.stale} rows are stuck")
        if each.unsent:
            warns.append(f"{each.table}: {each.unsent} messages of rescued rows wait to be sent")
    observed = {
        each.name: {
            "table": each.table,
            "action": each.action,
            "stuck": each.stale,
            "rescued": each.rescued,
            "given_up": each.given_up,
            "unsent": each.unsent,
        }
        for each in tables
    }
    return verdict("watched_tables", observed, fails=fails, warns=warns)


def _last_look(ago: float | None) -> str:
    return "and never did" if ago is None else f"for {ago:.0f} s"
