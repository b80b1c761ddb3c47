"""Where a connection string names several hosts: the one that answered last is asked first.

The driver asks them in the order in which they are named, and waits for each. A host that is gone without a word (its
power, its network) refuses nothing, and a call whose deadline is no longer than that wait would never come to the next.
So who was waited for in vain goes to the end, for all connections of this process. That is so where the string asks for
the one that takes writes; else the order is the caller's wish, and the second perhaps a standby that takes none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from holdfast.postgres.dsn import is_rest, parse

_PLACES = ("host", "hostaddr", "port")
#: By connection string: how many of its hosts go to the end.
_passed: dict[str, int] = {}


@contextmanager
def hosts_in_turn(dsn: str) -> Iterator[dict[str, Any]]:
    """The hosts in the order to ask them in, as the driver takes them; empty where there is one.

    Whoever fails inside, or is cancelled, has the next one asked first from then on.

    >>> with hosts_in_turn("postgresql://db-a,db-b/app?target_session_attrs=read-write") as hosts:
    ...     hosts["host"]
    'db-a,db-b'
    """
    named = _named(dsn)
    passed = _passed.get(dsn, 0)
    try:
        yield {name: ",".join(values[passed:] + values[:passed]) for name, values in named.items()}
    except BaseException:
        if named and _passed.get(dsn, 0) == passed:  # of many that wait for one host, the first passes it
            _passed[dsn] = (passed + 1) % _count(named)
        raise


def note_host(dsn: str, host: str, port: int) -> None:
    """This one has answered."""
    named = _named(dsn)
    for place in range(_count(named) if named else 0):
        here = {values[place] for name, values in named.items() if name != "port"}
        if host in here and ("port" not in named or int(named["port"][place] or 5432) == port):
            _passed[dsn] = place
            return


def _named(dsn: str) -> dict[str, list[str]]:
    """What there are several of; one port is that of all hosts."""
    parts = {} if is_rest(dsn) else parse(dsn)
    if parts.get("target_session_attrs") not in ("read-write", "primary"):
        return {}
    return {name: parts[name].split(",") for name in _PLACES if "," in parts.get(name, "")}


def _count(named: dict[str, list[str]]) -> int:
    return max(len(values) for values in named.values())
