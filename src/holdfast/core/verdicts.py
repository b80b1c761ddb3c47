"""From reasons to a verdict: any reason to fail fails, any to warn warns, and the first of them are told."""

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.core.health import Check, Status


def verdict(name: str, observed: Mapping[str, Any], *, fails: Sequence[str] = (), warns: Sequence[str] = ()) -> Check:
    """What reasons to fail and to warn come to."""
    status = Status.FAIL if fails else Status.WARN if warns else Status.PASS
    return Check(name, status, _few([*fails, *warns]), observed)


def _few(reasons: Sequence[str], most: int = 5) -> str:
    more = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + more
