"""What a limiter has decided, counted: by policy, source and outcome, and refusals by identity."""

from collections import Counter
from collections.abc import Mapping

from holdfast.core.ratelimit import Decision, Source
from holdfast.services.identities import Identity

#: Policies that are kept apart; programs that make more of them see the rest as "others".
MOST_POLICIES = 500
#: Identities whose refusals are told in one beat.
MOST_TOLD = 500


class Counts:
    """Counts since the limiter's start. What an identity counts for itself is added when they are looked at."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._names: set[str] = set()
        self._deniers: dict[Identity, Source] = {}
        self._untold: Counter[tuple[str, str]] = Counter()

    def add(self, policy: str, source: str, outcome: str, number: int = 1) -> None:
        """Count decisions."""
        if policy not in self._names:
            if len(self._names) >= MOST_POLICIES:
                policy = "others"
            self._names.add(policy)
        self._counts[policy, source, outcome] += number

    def told(self, made: Decision) -> Decision:
        """Count one decision, and pass it on."""
        outcome = "shadowed" if made.shadowed else "admitted" if made.allowed else "refused"
        self.add(made.policy, made.source, outcome)
        return made

    def deny(self, identity: Identity, source: Source) -> None:
        """An identity begins to be refused from memory; it counts for itself."""
        self._deniers[identity] = source

    def totals(self) -> Mapping[tuple[str, str, str], int]:
        """All decisions so far."""
        deniers, self._deniers = self._deniers, {}
        for identity, source in deniers.items():
            self.add(identity.policy, source, "refused", identity.denied)
            if identity.digest is not None and len(self._untold) < MOST_TOLD:
                self._untold[identity.policy, identity.digest] += identity.denied
            identity.denied = 0
        return self._counts

    def take_untold(self) -> dict[tuple[str, str], int]:
        """Refusals from memory by policy and hash, since the last time: Postgres has not seen them."""
        self.totals()
        untold, self._untold = self._untold, Counter()
        return dict(untold)
