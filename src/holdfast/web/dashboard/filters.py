"""The filter of the list of jobs, as it stands in the address: to be shared, and to be acted on."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Query

from holdfast.core.job import Status
from holdfast.postgres.searching import JobSearch
from holdfast.web.problems import Problem

STATUSES = tuple(status.value for status in Status)
SINCE = {"1h": 3600, "24h": 86_400, "7d": 604_800}
_PAIR = re.compile(r"""([\w.-]+)\s*[=:]\s*("(?:[^"\\]|\\.)*"|[^\s,]+)""")


def parse_args(text: str) -> dict[str, Any] | None:
    """What arguments must contain: JSON, or paths with values. Raises `Problem`.

    >>> parse_args("user.plan=pro  attempt=3")
    {'user': {'plan': 'pro'}, 'attempt': 3}
    >>> parse_args('{"to": "ada"}')
    {'to': 'ada'}
    """
    text = text.strip()
    if not text:
        return None
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise Problem(400, f"the filter by arguments is no JSON: {error}") from None
        return found if isinstance(found, dict) else None
    if _PAIR.sub("", text).strip(" ,"):
        raise Problem(400, f"the filter by arguments is {text[:100]!r}; write for example user.plan=pro, or JSON")
    wanted: dict[str, Any] = {}
    for path, value in _PAIR.findall(text):
        *parents, name = path.split(".")
        place = wanted
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise Problem(400, f"the filter by arguments asks twice for {parent!r}, once for a part of it")
        place[name] = _value(value)
    return wanted


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class JobFilters:
    """The fields of the form; empty ones do not matter."""

    status: str = ""
    queue: str = ""
    kind: str = ""
    error: str = ""
    key: str = ""
    args: str = ""
    since: str = ""
    cause: str = ""

    def query(self, **changes: str) -> dict[str, str]:
        """As it stands in an address, with some fields changed."""
        fields = {**self.__dict__, **changes}
        return {name: value for name, value in fields.items() if value}

    @property
    def narrows(self) -> bool:
        """Whether more than the status is asked for."""
        return bool(self.query(status=""))

    def search(self, now: datetime | None = None) -> JobSearch:
        """As the ledger is asked. Raises `Problem`."""
        if self.status and self.status not in STATUSES:
            raise Problem(400, f"status is {self.status[:40]!r}; there are {', '.join(STATUSES)}")
        if self.since and self.since not in SINCE:
            raise Problem(400, f"since is {self.since[:40]!r}; there are {', '.join(SINCE)}")
        after = (now or datetime.now(UTC)) - timedelta(seconds=SINCE[self.since]) if self.since else None
        return JobSearch(
            status=self.status or None,
            queue=self.queue or None,
            kind=self.kind or None,
            error=self.error or None,
            key=self.key or None,
            args=parse_args(self.args),
            created_after=after,
            fingerprint=self.cause or None,
        )


_Field = Annotated[str, Query(max_length=500)]


def _filters(
    status: _Field = "",
    queue: _Field = "",
    kind: _Field = "",
    error: _Field = "",
    key: _Field = "",
    args: _Field = "",
    since: _Field = "",
    cause: _Field = "",
) -> JobFilters:
    return JobFilters(*(each.strip() for each in (status, queue, kind, error, key, args, since, cause)))


Filters = Annotated[JobFilters, Depends(_filters)]
