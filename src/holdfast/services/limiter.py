"""The rate limiter: exact over all processes while Postgres answers, and by the same rule in memory while it does not.

What asks while a round trip is under way shares the next one (`services/flights.py`). Who is known to have no room
until a certain time is refused until then without asking. While Postgres does not answer, each process keeps its share
of the limits in memory, beginning with what it knew last, and pays back what it admitted when Postgres is there again.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from holdfast.core.ratelimit import Decision, Limits, Policy, Quota, Source, decision
from holdfast.errors import ConfigurationError, DatabaseUnavailable, InvalidArguments
from holdfast.events import RateLimiterSwitched, Sinks
from holdfast.instrument.logs import LogSink
from holdfast.postgres import rate_limit
from holdfast.postgres.dsn import is_rest
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.alone import Alone
from holdfast.services.background import Background
from holdfast.services.flights import Flights
from holdfast.services.identities import Identities, Identity, folded, hashed
from holdfast.services.limiter_counts import Counts
from holdfast.services.limiter_link import ADMIN_DEADLINE, HTTPS_DEADLINE, Link

#: Ways to write policies that are remembered.
MOST_POLICIES = 500
#: Seconds that a peek waits for Postgres; it may have to connect first.
PEEK_DEADLINE = 1.0
#: Seconds between two looks of somebody who waits for admission, at the least.
SHORTEST_WAIT = 0.001
#: A refusal that is remembered is told again as it is for this long (seconds).
FRESH = 0.001


@dataclass(frozen=True)
class LimiterReport:
    """How a limiter is. `flight_p50` and `flight_p99` in seconds, of the last 512 round trips (None: none yet).

    decisions: since its start, by (policy, source, outcome); outcomes are admitted, refused and shadowed.
    lacks_schema: Postgres answers, and has not the tables and functions of this version.
    """

    mode: Source
    why: str
    mode_for: float
    instances: int
    is_full: bool
    identities: int
    debtors: int
    flights: int
    flight_p50: float | None
    flight_p99: float | None
    decisions: Mapping[tuple[str, str, str], int]
    lacks_schema: bool = False


class RateLimiter:
    """Decides whether requests are admitted; for asyncio programs, on the loop that started it.

    dsn: the ledger's Postgres; None keeps all in this process's memory.
    deadline: seconds that a round trip to Postgres may take, over HTTPS at least half a second; a decision waits for
        twice that at most.
    most_keys: identities that this process remembers at most.
    most_identities: rows above which new identities share places in Postgres.

        async with RateLimiter(dsn) as limiter:
            decision = await limiter.hit("user:42", "100/minute")
            if not decision.allowed: ...  # again after decision.retry_after seconds

    >>> import asyncio
    >>> async def example() -> list[bool]:
    ...     async with RateLimiter(None) as limiter:
    ...         return [(await limiter.hit("user:42", "2/minute")).allowed for _ in range(3)]
    >>> asyncio.run(example())
    [True, True, False]
    """

    def __init__(
        self,
        dsn: str | None,
        *,
        deadline: float = 0.05,
        most_keys: int = 50_000,
        most_identities: int = 2_000_000,
        sinks: Sinks | None = None,
    ) -> None:
        self.id = uuid4()
        self._sinks = Sinks([LogSink()]) if sinks is None else sinks
        self._identities = Identities(most_keys)
        self._policies: dict[object, Policy] = {}
        self.counts = Counts()
        self._alone = Alone(is_local=dsn is None)
        self._is_alone = self._was_told_alone = True
        self._admin: AsyncLedger | None = None
        self._link: Link | None = None
        self._flights: Flights | None = None
        if dsn is not None:
            if is_rest(dsn):
                deadline = max(deadline, HTTPS_DEADLINE)
            self._admin = AsyncLedger(dsn, name="holdfast limits", deadline=ADMIN_DEADLINE)
            self._link = Link(self, dsn, most_identities)
            self._flights = Flights(self._link, self, deadline)
            self.deadline = deadline

    # Life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for Postgres; returns at once, and until it is found memory decides.

        The first request does so too, where nobody has, and waits for it as long as for a decision of Postgres; `stop`
        is for the program to call.
        """
        if self._link is not None:
            self._link.start()

    async def looked(self, timeout: float = 1.0) -> None:
        """Wait until the first look for Postgres has ended, for `timeout` seconds at most."""
        if self._link is not None:
            await self._link.looked(timeout)

    async def stop(self) -> None:
        """End: tell what is not told yet, and close the connections."""
        if self._flights is not None and self._link is not None and self._admin is not None:
            await self._flights.idle()
            await self._link.stop()
            await self._admin.close()

    async def __aenter__(self) -> "RateLimiter":
        await self.start()
        await self.looked()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def deadline(self) -> float:
        """Seconds that a round trip to Postgres may take."""
        return self._flights.deadline if self._flights else 0.0

    @deadline.setter
    def deadline(self, seconds: float) -> None:
        if self._flights is not None and self._link is not None:
            self._flights.deadline = self._link.deadline = seconds

    @property
    def mode(self) -> Source:
        """Who decides now: `postgres`, or `memory` while it does not answer."""
        return "memory" if self._is_alone else "postgres"

    @property
    def loop(self) -> Background | None:
        """What looks for Postgres in the background; None where there is none."""
        return self._link.loop if self._link else None

    def report(self) -> LimiterReport:
        """How it is now; asks nobody."""
        link, flights = self._link, self._flights
        p50, p99 = flights.quantiles() if flights else (None, None)
        return LimiterReport(
            self.mode,
            link.why if link else "it has no Postgres",
            time.monotonic() - link.since if link else 0.0,
            link.instances if link else 1,
            link.is_full if link else False,
            len(self._identities),
            len(flights.debtors) if flights else 0,
            flights.flown if flights else 0,
            p50,
            p99,
            dict(self.counts.totals()),
            lacks_schema=link.lacks_schema if link else False,
        )

    # Decisions -----------------------------------------------------------------------------------------------

    async def hit(self, key: str, limits: Limits, *, cost: int = 1) -> Decision:
        """Ask for one request of this identity, of so many units, to be admitted. Never raises for want of Postgres.

        limits: "100/minute", a `Limit`, a `Policy`, or several: "5/second, 100/minute, 1000/day".
        Raises `ConfigurationError` and `InvalidArguments`.
        """
        policy = limits if type(limits) is Policy else self._policy(limits)
        identity = self._identities.get((policy.name, key)) if type(key) is str else None
        now = time.monotonic()
        if identity is None:
            identity = self._identity(policy, key, now)
        elif identity.full_until > now and cost >= identity.full_for and identity.full_under is policy:
            return self._still_full(policy, identity, now)
        if type(cost) is not int or not 1 <= cost <= policy.capacity:
            raise InvalidArguments(f"cost is {cost!r:.60}; it must be from 1 to the limit, {policy.capacity}")
        if self._is_alone:
            if self._link is not None and not self._link.has_looked:
                await self._link.first_look()
            if self._is_alone:
                return self.alone(policy, identity, cost, now)
        assert self._flights is not None
        return await self._flights.ask(policy, identity, cost)

    def refusal(self, key: str, limits: Limits, cost: int = 1) -> Decision | None:
        """The refusal that is known without asking, if there is one; may be called from any thread."""
        policy = limits if type(limits) is Policy else self._policy(limits)
        identity = self._identities.get((policy.name, key))
        now = time.monotonic()
        if (
            identity is not None
            and identity.full_until > now
            and cost >= identity.full_for
            and identity.full_under is policy
        ):
            return self._still_full(policy, identity, now)
        return None

    async def acquire(self, key: str, limits: Limits, *, cost: int = 1, timeout: float | None = None) -> Decision:
        """Wait until the request is admitted, at most `timeout` seconds: then the decision that refused it.

        while job := await next_job():
            await limiter.acquire("vendor-api", "50/second")
        """
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while True:
            found = await self.hit(key, limits, cost=cost)
            if found.allowed or time.monotonic() + found.retry_after > end:
                return found
            await asyncio.sleep(max(found.retry_after, SHORTEST_WAIT) * random.uniform(1.0, 1.05))  # noqa: S311

    async def peek(self, key: str, limits: Limits, *, cost: int = 1) -> Decision:
        """How a request would be answered now; counts nothing. Never raises for want of Postgres."""
        policy = self._policy(limits)
        identity = self._identity(policy, key, time.monotonic())
        if self._is_alone or self._admin is None or self._flights is None:
            return self._alone.look(policy, identity, cost)
        try:
            async with asyncio.timeout(PEEK_DEADLINE):
                digest = await self._digest(key)
                answer = await self._admin.one(rate_limit.rate_limit_peek(policy, digest.hex, cost))
        except (DatabaseUnavailable, TimeoutError):
            return self._alone.look(policy, identity, cost)
        return self._flights.read(policy, identity, cost, answer)

    async def refund(self, spent: Decision) -> bool:
        """Take an admission back, as if the request had never been (it failed for our own reasons). Once each.

        Raises `DatabaseUnavailable` where it was Postgres that admitted it and it does not answer now.
        """
        if not spent.allowed or spent.shadowed:
            return False
        policy = Policy(tuple(quota.limit for quota in spent.quotas), spent.policy)
        identity = self._identities.get((spent.policy, spent.key))
        if spent.source == "memory":
            if identity is None or identity.tally is None:
                return False
            identity.tally.refund(policy, spent.cost, spent.stamp / 1e6)
            identity.full_until = 0.0
            identity.forgive(spent.cost)
            return True
        digest = await self._digest(spent.key)
        call = rate_limit.rate_limit_refund(policy, digest.hex, spent.stamp, spent.cost)
        done = await self._administration().one(call)
        if identity is not None:
            identity.full_until = 0.0
        return done

    # Administration: in the ledger, and so for all processes within a second ----------------------------------

    async def reset(self, key: str, policy: str | None = None) -> int:
        """Forget what an identity was admitted, under one policy (its name) or all; how many counts that were."""
        if self._admin is None:
            return self._forget_here(key, policy)
        gone = await self._administration().one(rate_limit.rate_limit_reset(await self._digest(key), policy))
        self._identities.forget()
        return gone

    async def block(self, key: str, seconds: float | None = None, *, policy: str = "", note: str | None = None) -> None:
        """Refuse an identity, under one policy or all, for so long or for ever."""
        await self._rule(policy, key, "block", seconds, note=note)

    async def allow(self, key: str, seconds: float | None = None, *, policy: str = "", note: str | None = None) -> None:
        """Admit an identity always, under one policy or all, for so long or for ever."""
        await self._rule(policy, key, "allow", seconds, note=note)

    async def override(
        self, key: str | None, policy: str, limits: Limits, seconds: float | None = None, *, note: str | None = None
    ) -> None:
        """Give one identity (None: every one) other limits under a policy: a tier changes without a deploy."""
        await self._rule(policy, key, "limit", seconds, note=note, limits=limits)

    async def clear(self, key: str | None, *, policy: str = "") -> bool:
        """Take back `block`, `allow` or `override` of that identity and policy; whether there was one."""
        return await self._rule(policy, key, None)

    async def top(self, n: int = 10, *, policy: str | None = None) -> list[tuple[str, rate_limit.IdentityRow]]:
        """Who is refused most. Beside each its key, where this process knows it, else the hash that the ledger has."""
        rows = await self._administration().call(rate_limit.top_rate_limits(n, policy))
        known = {identity.digest: identity.key for identity in self._identities if identity.digest}
        return [(known.get(row.key.hex, str(row.key)), row) for row in rows]

    async def _rule(
        self,
        policy: str,
        key: str | None,
        verdict: str | None,
        seconds: float | None = None,
        *,
        note: str | None = None,
        limits: Limits | None = None,
    ) -> bool:
        self._administration()
        digest = rate_limit.ALL if key is None else await self._digest(key)
        wanted = () if limits is None else Policy.of(limits).limits
        call = rate_limit.rate_limit_set_rule(policy, digest, verdict, seconds, note=note, limits=wanted)
        changed = await self._administration().one(call)
        self._identities.forget()
        return changed

    def _administration(self) -> AsyncLedger:
        if self._admin is None:
            raise ConfigurationError("this limiter has no Postgres; rules and lists are kept there: RateLimiter(dsn)")
        return self._admin

    async def _digest(self, key: str) -> UUID:
        assert self._link is not None
        if self._link.secret is None:
            return await self._administration().one(rate_limit.rate_limit_key(folded(_text(key))))
        return UUID(hashed(self._link.secret, folded(_text(key))))

    def _forget_here(self, key: str, policy: str | None) -> int:
        found = [each for each in self._identities if each.key == key and policy in (None, each.policy)]
        for identity in found:
            identity.tally, identity.full_until = None, 0.0
        return len(found)

    # What this process knows ---------------------------------------------------------------------------------

    def _policy(self, limits: Limits) -> Policy:
        wanted = tuple(limits) if isinstance(limits, list) else limits
        found = self._policies.get(wanted)
        if found is None:
            if len(self._policies) >= MOST_POLICIES:
                self._policies.clear()
            found = self._policies[wanted] = Policy.of(wanted)
        return found

    def _identity(self, policy: Policy, key: str, now: float) -> Identity:
        return self._identities.take(policy.name, folded(_text(key)), now, self._may_go)

    def _may_go(self, identity: Identity, now: float) -> bool:
        if identity.busy_until > now or identity.flying:
            return False
        return self._flights is None or self._flights.let_go(identity)

    def _still_full(self, policy: Policy, identity: Identity, now: float) -> Decision:
        if not identity.denied:
            self.counts.deny(identity, "memory" if self._is_alone else "cache")
        identity.denied += 1
        found = identity.refusal
        assert found is not None
        if now - identity.refused_at > FRESH:
            passed = now - identity.refused_at
            quotas = tuple([quota.later(passed) for quota in found.quotas])
            source: Source = "memory" if self._is_alone else "cache"
            found = decision(policy, quotas, allowed=False, source=source, key=identity.key, cost=identity.full_for)
            identity.refusal, identity.refused_at = found, now
        return found

    def full(self, policy: Policy, identity: Identity, quotas: tuple[Quota, ...], cost: int, at: float) -> None:
        """Remember that a request of this cost has no room, as it was known at `at`."""
        identity.full_until = at + max(quota.retry_after for quota in quotas)
        identity.full_for = cost
        identity.full_under = policy
        source: Source = "memory" if self._is_alone else "cache"
        identity.refusal = decision(policy, quotas, allowed=False, source=source, key=identity.key, cost=cost)
        identity.refused_at = at

    def alone(self, policy: Policy, identity: Identity, cost: int, now: float) -> Decision:
        """Decide without Postgres."""
        made = self.counts.told(self._alone.decide(policy, identity, cost, now))
        if identity.lent and self._flights is not None:
            self._flights.debtors[identity] = identity.rule or policy
        if not made.allowed and identity.tally is not None:
            self.full(policy, identity, made.quotas, cost, now)
        return made

    # Told to and by the link and the flights -----------------------------------------------------------------

    def switch(self, *, alone: bool, why: str, instances: int, tell: bool) -> None:
        """From now on this process is on its own, or Postgres decides; `tell` where that may last."""
        self._is_alone = alone
        self._alone.instances = instances
        if tell and alone != self._was_told_alone:
            self._was_told_alone = alone
            self._sinks.emit(RateLimiterSwitched(self.mode, why, instances))
        if not alone and self._flights is not None:
            self._alone.end()
            self._flights.call_next()

    def forget(self) -> None:
        """Somebody changed what was remembered."""
        self._identities.forget()

    def rehash(self) -> None:
        """The secret of the hashes is another one."""
        self._identities.rehash()

    def untold(self) -> tuple[Mapping[tuple[str, str, str], int], dict[tuple[str, str], int]]:
        """What a beat tells: all decisions counted so far, and refusals by policy and hash that nobody else saw."""
        return self.counts.totals(), self.counts.take_untold()


def _text(key: str) -> str:
    if not isinstance(key, str):
        raise InvalidArguments(f"the key of a rate limit is {key!r:.100}; it must be text: 'user:42'")
    return key
