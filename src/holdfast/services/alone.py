"""What a process decides on its own, while Postgres does not answer or where there is none.

It keeps its share of each limit by the same rule in memory, and begins with what Postgres said last: of the room that
was left then, each of the instances that lived has its part. What it admits is lent: it is paid back later.
"""

import time

from holdfast.core.ratelimit import Decision, Policy, Quota, decision
from holdfast.core.tally import Tally
from holdfast.services.identities import Identity

#: Seconds that a refusal of a closed policy advises to wait, when nobody can know.
CLOSED_RETRY = 5.0
MOST_SHARES = 500


class Alone:
    """Decides in memory. `is_local`: there is no Postgres at all, so nothing is shared or lent."""

    def __init__(self, *, is_local: bool) -> None:
        self._is_local = is_local
        self.instances = 1
        self._shares: dict[tuple[Policy, int], Policy] = {}
        self._begun: list[Identity] = []

    def decide(self, policy: Policy, identity: Identity, cost: int, now: float) -> Decision:
        """By what the policy says for the time without Postgres."""
        wanted = identity.rule or policy
        mode = "share" if self._is_local else policy.without_postgres
        if mode == "closed":
            return self._fixed(policy, identity, cost, CLOSED_RETRY)
        if identity.is_allowed:
            return self._fixed(policy, identity, cost, None)
        share = self.share(wanted)
        tally = self.tally(identity, share)
        if mode == "open":
            tally.step(share, cost, 0, cost, now)
            allowed = True
        else:
            allowed = tally.step(share, cost, 1, 0, now) > 0
        if allowed and not self._is_local:
            identity.lend(cost, wanted.longest, now)
        quotas = tally.quotas(share, cost, now)
        identity.busy_until = now + max(quota.reset_after for quota in quotas)
        stamp = int(now * 1e6)
        return decision(policy, quotas, allowed=allowed, source="memory", key=identity.key, cost=cost, stamp=stamp)

    def look(self, policy: Policy, identity: Identity, cost: int) -> Decision:
        """How it would be decided; counts nothing."""
        share = self.share(identity.rule or policy)
        quotas = self.tally(identity, share).quotas(share, cost, time.monotonic())
        allowed = all(quota.retry_after <= 0 for quota in quotas)
        return decision(policy, quotas, allowed=allowed, source="memory", key=identity.key, cost=cost)

    def share(self, policy: Policy) -> Policy:
        """This process's part of a policy."""
        if self.instances <= 1:
            return policy
        found = self._shares.get((policy, self.instances))
        if found is None:
            if len(self._shares) >= MOST_SHARES:
                self._shares.clear()
            parts = tuple(limit.share(self.instances) for limit in policy.limits)
            found = Policy(parts, policy.name, policy.without_postgres, policy.shadow)
            self._shares[policy, self.instances] = found
        return found

    def tally(self, identity: Identity, share: Policy) -> Tally:
        """An identity's counts here, begun with what Postgres said last, and what it does not know of yet."""
        if identity.tally is not None:
            return identity.tally
        identity.tally = Tally()
        if not self._is_local:
            self._begun.append(identity)
        known = identity.known
        if known is not None and len(known) == len(share.limits):
            passed = time.monotonic() - identity.known_at
            used = [self._part(quota) if quota.reset_after > passed else 0 for quota in known]
            identity.tally.seed(share.limits, used, identity.known_at)
        for at, units in (*(identity.charging or ()), *(identity.lent or ())):
            identity.tally.step(share, 1, 0, units, at)
        return identity.tally

    def end(self) -> None:
        """Postgres decides again: what was counted here is paid back, and forgotten."""
        for identity in self._begun:
            identity.tally, identity.full_until = None, 0.0
        self._begun = []

    def _part(self, quota: Quota) -> int:
        return -(-(quota.limit.capacity - quota.remaining) // self.instances)

    def _fixed(self, policy: Policy, identity: Identity, cost: int, wait: float | None) -> Decision:
        """Refused for so long, or (None) admitted whatever was admitted already."""
        limits = self.share(identity.rule or policy).limits
        quotas = tuple(Quota(limit, limit.capacity if wait is None else 0, wait or 0, wait or 0) for limit in limits)
        return decision(policy, quotas, allowed=wait is None, source="memory", key=identity.key, cost=cost)
