"""What a limiter remembers of identities: a bounded map, so that inventing identities fills no memory."""

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator

from holdfast.core.ratelimit import Decision, Policy, Quota
from holdfast.core.tally import Tally

#: How many of the oldest are looked at to find one that may go.
LOOK_AT = 8
#: Longer keys are remembered by their hash.
LONGEST_KEY = 200


class Identity:
    """One identity under one policy. Times are monotonic seconds.

    full_until, full_for: until when requests of at least that cost have no room, as Postgres said; until then they
        are refused without asking.
    known: the last answer of Postgres, and when it came; what a process on its own begins with.
    tally: the counts while this process is on its own.
    lent: units admitted on its own, with their times, which Postgres does not know of yet. charging: those of them
        that a flight has taken along, until it has landed.
    busy_until: until when these counts matter to anybody. flying: a round trip about it is under way.
    """

    __slots__ = (
        "busy_until",
        "charging",
        "denied",
        "digest",
        "flying",
        "full_for",
        "full_under",
        "full_until",
        "is_allowed",
        "is_mixed",
        "key",
        "known",
        "known_at",
        "lent",
        "policy",
        "refusal",
        "refused_at",
        "rule",
        "tally",
    )

    def __init__(self, policy: str, key: str) -> None:
        self.policy = policy
        self.key = key
        self.digest: str | None = None
        self.full_until = 0.0
        self.full_for = 1
        self.full_under: Policy | None = None
        self.refusal: Decision | None = None
        self.refused_at = 0.0
        self.denied = 0
        self.known: tuple[Quota, ...] | None = None
        self.known_at = 0.0
        self.rule: Policy | None = None
        self.tally: Tally | None = None
        self.lent: list[tuple[float, int]] | None = None
        self.charging: list[tuple[float, int]] | None = None
        self.is_mixed = False
        self.is_allowed = False
        self.busy_until = 0.0
        self.flying = False

    def lend(self, units: int, longest: float, now: float) -> None:
        """Keep that so much was admitted; what comes close together is kept as one."""
        if self.lent is None:
            self.lent = []
        if self.lent and now - self.lent[-1][0] < longest / 60:
            self.lent[-1] = (now, self.lent[-1][1] + units)
        else:
            self.lent.append((now, units))
            if self.lent[0][0] <= now - longest:
                self.lent = [each for each in self.lent if each[0] > now - longest]

    def forgive(self, units: int) -> None:
        """Owe so much less, the youngest first."""
        while units and self.lent:
            at, lent = self.lent.pop()
            if lent > units:
                self.lent.append((at, lent - units))
            units -= min(lent, units)

    def take_back(self) -> None:
        """The flight with the debt was lost: it is owed as before."""
        self.lent, self.charging = [*(self.charging or ()), *(self.lent or ())], None

    def debt(self, longest: float, now: float) -> int:
        """The units that still stand in some window and that Postgres does not know of."""
        return sum(units for at, units in self.lent if at > now - longest) if self.lent else 0


MayGo = Callable[[Identity, float], bool]


class Identities:
    """At most `most` of them. Where all are in use, newcomers under a policy share one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], Identity] = OrderedDict()
        #: The hot path looks here before it asks for one.
        self.get = self._kept.get

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Identity]:
        return iter(list(self._kept.values()))

    def take(self, policy: str, key: str, now: float, may_go: MayGo) -> Identity:
        """The one of this key, made when it is new. `may_go(identity, now)` says which may be forgotten for it."""
        found = self._kept.get((policy, key))
        if found is not None:
            return found
        if len(self._kept) >= self._most and not self._make_room(now, may_go):
            return self._kept.setdefault((policy, ""), Identity(policy, ""))
        made = self._kept[policy, key] = Identity(policy, key)
        return made

    def forget(self) -> None:
        """Nothing is known any more of what Postgres said; counts of this process alone stay."""
        for identity in self._kept.values():
            identity.full_until = 0.0
            identity.known = identity.refusal = identity.rule = None
            identity.is_allowed = False

    def rehash(self) -> None:
        """The secret of the hashes is another."""
        for identity in self._kept.values():
            identity.digest = None

    def _make_room(self, now: float, may_go: MayGo) -> bool:
        oldest = list(itertools.islice(self._kept, LOOK_AT))
        for place in oldest:
            if may_go(self._kept[place], now):
                del self._kept[place]
                return True
            self._kept.move_to_end(place)
        return False


def hashed(secret: bytes, key: str) -> str:
    """What the ledger calls an identity (see rate_limit_key.sql): 32 hexadecimal digits.

    >>> hashed(b"", "user:42")
    '4fac8b3b76c252b9beae33fd02aec8ea'
    """
    inner = hashlib.sha256(secret + key.encode("utf-8", "surrogatepass")).digest()
    return hashlib.sha256(secret + inner).hexdigest()[:32]


def folded(key: str) -> str:
    """A key as it is remembered: a very long one by its hash (rate_limit_key.sql does the same)."""
    return key if len(key) <= LONGEST_KEY else hashed(b"", key)
