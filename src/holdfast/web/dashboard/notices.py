"""What a page says about what was just done: kept here for a minute, under a name that stands in the address.

It is a courtesy: where another instance answers, nothing is said.
"""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

#: Seconds that one is shown for, and how many are kept.
LASTS, MOST = 60.0, 500


@dataclass(frozen=True)
class Notice:
    """Words for whoever did it (`identity`). `kind`: ok or warn."""

    identity: str
    text: str
    kind: str
    until: float


class Notices:
    """Those of one process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Notice] = OrderedDict()

    def keep(self, identity: str, text: str, kind: str) -> str:
        """The name under which it is found."""
        name = secrets.token_urlsafe(6)
        self._kept[name] = Notice(identity, text, kind, time.monotonic() + LASTS)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return name

    def find(self, identity: str, name: str) -> Notice | None:
        """The notice of that name, for whom it is, while it lasts."""
        found = self._kept.get(name)
        return found if found is not None and found.identity == identity and found.until > time.monotonic() else None
