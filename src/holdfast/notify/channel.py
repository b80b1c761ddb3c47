"""What a channel is: one method, and three ways in which a try can end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Delivered:
    """It arrived."""


@dataclass(frozen=True)
class Again:
    """It did not arrive, and may at another try.

    `after`: seconds that the receiver asked for, None for our own pace.
    """

    why: str
    after: float | None = None


@dataclass(frozen=True)
class Broken:
    """The channel itself refuses, and will at every try until somebody mends it."""

    why: str


Outcome = Delivered | Again | Broken


class Channel(Protocol):
    """Tells people. `send` never raises for what the other side does.

    `takes_digests`: many incidents may be one message. `pace`: seconds between two messages.
    """

    @property
    def name(self) -> str: ...
    @property
    def takes_digests(self) -> bool: ...
    @property
    def pace(self) -> float: ...
    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome: ...
    async def close(self) -> None: ...
