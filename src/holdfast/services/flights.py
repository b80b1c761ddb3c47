"""Round trips of the rate limiter, shared: who asks while one is under way travels in the next, one row an identity.

There is no timer that collects: a lone request leaves at once, and a busy process fills its flights by itself. Each
flight has one deadline. When it is missed, everybody who waits is answered from memory, and the flight is waited for
all the same: what it brings late is set off against what memory admitted meanwhile.
"""

import asyncio
import hashlib
import itertools
import logging
import time
from collections import deque
from typing import NamedTuple, Protocol, TypeVar

from holdfast.core.ratelimit import Decision, Policy, Quota, decision
from holdfast.errors import DatabaseError
from holdfast.postgres.calls import Call
from holdfast.postgres.rate_limit import Answer, Asked, rate_limit_hits, rate_limit_refund
from holdfast.services.identities import LONGEST_KEY, Identity

_log = logging.getLogger("holdfast")
Row = TypeVar("Row")

MOST_IN_A_FLIGHT = 500
#: Seconds of grace where the timer itself was late, since then the loop stood still and not Postgres.
GRACE = 0.01
#: Seconds that a remembered block without an end is remembered.
DAY = 86_400.0
MOST_REFUNDS = 1000


class _Ask(NamedTuple):
    policy: Policy
    cost: int
    future: "asyncio.Future[Decision]"


class _Seat(NamedTuple):
    """One identity in a flight: the asks that fly, which share policy and cost, and the debt that flies with them."""

    identity: Identity
    policy: Policy
    cost: int
    asks: list[_Ask]
    debt: int
    together: bool


class _Ground(Protocol):
    """What flights need of the limiter."""

    def alone(self, policy: Policy, identity: Identity, cost: int, now: float) -> Decision: ...
    def full(self, policy: Policy, identity: Identity, quotas: tuple[Quota, ...], cost: int, at: float) -> None: ...
    def count(self, policy: str, source: str, outcome: str, number: int = 1) -> None: ...


class _Line(Protocol):
    """What flights need of the link to Postgres."""

    secret: bytes | None

    @property
    def is_up(self) -> bool: ...
    async def call(self, call: Call[Row]) -> list[Row]: ...
    def late(self) -> None: ...
    def landed(self, *, late: bool) -> None: ...
    def lost(self, why: str) -> None: ...


class Flights:
    """Carries asks to Postgres and answers back. `deadline` in seconds."""

    def __init__(self, line: _Line, ground: _Ground, deadline: float) -> None:
        self._line = line
        self._ground = ground
        self.deadline = deadline
        self.flown = 0
        #: Who was admitted something that Postgres does not know of, and under which policy.
        self.debtors: dict[Identity, Policy] = {}
        self._waiting: dict[Identity, list[_Ask]] = {}
        self._in_the_air: list[_Seat] = []
        self._refunds: deque[tuple[Policy, str, int, int]] = deque(maxlen=MOST_REFUNDS)
        self._task: asyncio.Task[None] | None = None
        self._is_late = False
        self._times: deque[float] = deque(maxlen=512)

    def ask(self, policy: Policy, identity: Identity, cost: int) -> "asyncio.Future[Decision]":
        """Queue a request; the future ends with its decision, within the deadline."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Decision] = loop.create_future()
        asks = self._waiting.get(identity)
        if asks is None:
            self._waiting[identity] = [_Ask(policy, cost, future)]
        else:
            asks.append(_Ask(policy, cost, future))
        if self._task is None:
            self._task = loop.create_task(self._fly())
        return future

    def take_off(self) -> None:
        """Pay debts, if there are any, without waiting for somebody to ask."""
        if self._task is None and (self.debtors or self._waiting):
            self._task = asyncio.get_running_loop().create_task(self._fly())

    def let_go(self, identity: Identity) -> bool:
        """Whether nobody waits for an answer about this identity; its debts are void then."""
        if identity in self._waiting:
            return False
        self.debtors.pop(identity, None)
        return True

    async def idle(self) -> None:
        """Wait until everything asked so far has been answered; a flight that is late already is given up."""
        while self._task is not None:
            if self._is_late:
                self._task.cancel()
            await asyncio.wait({self._task})

    def quantiles(self) -> tuple[float | None, float | None]:
        """Half of the last round trips took less than the first, and 99 of 100 less than the second (seconds)."""
        times = sorted(self._times)
        return (times[len(times) // 2], times[len(times) * 99 // 100]) if times else (None, None)

    async def _fly(self) -> None:
        await asyncio.sleep(0)  # those who ask in the same turn of the loop come along
        try:
            while self._line.is_up and (self._waiting or self.debtors or self._refunds):
                while self._refunds:
                    await self._refund(*self._refunds.popleft())
                seats = self._board()
                if seats:
                    await self._one(seats)
            self._answer_alone()
        finally:
            self._task = None

    def _board(self) -> list[_Seat]:
        now = time.monotonic()
        seats: list[_Seat] = []
        for identity in list(itertools.islice(self._waiting, MOST_IN_A_FLIGHT)):
            asks = self._waiting.pop(identity)
            policy, cost, _ = asks[0]
            together = False
            if any(ask.policy is not policy or ask.cost != cost for ask in asks):
                if (
                    identity.is_mixed
                    or any(ask.policy is not policy for ask in asks)
                    or sum(ask.cost for ask in asks) > policy.capacity
                ):
                    flying = next(n for n, ask in enumerate(asks) if ask.policy is not policy or ask.cost != cost)
                    self._waiting[identity] = asks[flying:]
                    asks = asks[:flying]
                else:
                    together = True
                    cost = sum(ask.cost for ask in asks)
            self.debtors.pop(identity, None)
            identity.flying = True
            seats.append(_Seat(identity, policy, cost, asks, self._debt(identity, policy, now), together))
        for identity in list(itertools.islice(self.debtors, MOST_IN_A_FLIGHT - len(seats))):
            policy = self.debtors.pop(identity)
            debt = self._debt(identity, policy, now)
            if debt:
                identity.flying = True
                seats.append(_Seat(identity, policy, 1, [], debt, together=False))
        return seats

    def _debt(self, identity: Identity, policy: Policy, now: float) -> int:
        if not identity.lent:
            return 0
        debt = min(identity.debt(policy.longest, now), max(limit.most for limit in policy.limits))
        identity.lent = None
        return debt

    async def _one(self, seats: list[_Seat]) -> None:
        asked = [
            Asked(
                seat.policy,
                seat.identity.digest or self._hash(seat.identity),
                seat.cost,
                1 if seat.together else len(seat.asks),
                seat.debt,
            )
            for seat in seats
        ]
        loop = asyncio.get_running_loop()
        self._in_the_air, self._is_late = seats, False
        began = time.monotonic()
        timer = loop.call_later(self.deadline, self._missed, seats, loop.time() + self.deadline, True)
        try:
            answers = await self._line.call(rate_limit_hits(asked))
        except BaseException as error:
            self._give_back(seats)
            self._line.lost(str(error) or "the limiter stops")
            if isinstance(error, DatabaseError):
                return
            if isinstance(error, Exception):
                _log.exception("a flight of the rate limiter failed in an unforeseen way")
                return
            raise
        finally:
            timer.cancel()
            self._in_the_air = []
            for seat in seats:
                seat.identity.flying = False
        self.flown += 1
        self._times.append(time.monotonic() - began)
        for answer in answers:
            self._land(seats[answer.place - 1], answer, began)
        self._line.landed(late=self._is_late)

    def _hash(self, identity: Identity) -> str:
        assert self._line.secret is not None
        identity.digest = hashed(self._line.secret, identity.key)
        return identity.digest

    def _missed(self, seats: list[_Seat], due: float, may_wait: bool) -> None:
        loop = asyncio.get_running_loop()
        if self._in_the_air is not seats:
            return
        if may_wait and loop.time() - due > GRACE:
            loop.call_later(GRACE, self._missed, seats, due, False)
            return
        self._is_late = True
        self._line.late()
        self._answer_alone()

    def _answer_alone(self) -> None:
        """Everybody who waits is answered from memory."""
        now = time.monotonic()
        waiting, self._waiting = self._waiting, {}
        for identity, asks in [*((seat.identity, seat.asks) for seat in self._in_the_air), *waiting.items()]:
            for ask in asks:
                if not ask.future.done():
                    ask.future.set_result(self._ground.alone(ask.policy, identity, ask.cost, now))

    def _give_back(self, seats: list[_Seat]) -> None:
        """A flight was lost: nobody can know what Postgres has kept of it, so debts stay, and memory answers."""
        now = time.monotonic()
        for seat in seats:
            if seat.debt:
                seat.identity.lend(seat.debt, seat.policy.longest, now)
                self.debtors[seat.identity] = seat.policy
        self._in_the_air = seats
        self._answer_alone()

    def _land(self, seat: _Seat, answer: Answer, began: float) -> None:
        identity, asks = seat.identity, seat.asks
        granted = answer.numbers[0] or 0
        if self._is_late:
            self._set_off(seat, granted, answer.numbers[1] or 0)
            return
        if seat.together and granted == 0:
            # All at once had no room: then one after the other, as they came.
            identity.is_mixed = True
            self._waiting[identity] = asks + self._waiting.pop(identity, [])
            return
        identity.is_mixed = identity.is_mixed and granted == 0
        policy = self._ruled(seat.policy, identity, answer)
        quotas = _quotas(policy, answer)
        if not asks:
            return
        cost = asks[0].cost if seat.together else seat.cost
        served = len(asks) if seat.together else granted // seat.cost
        identity.known, identity.known_at = quotas, began
        stamp = answer.numbers[1] or 0
        if served:
            yes = decision(policy, quotas, allowed=True, source="postgres", key=identity.key, cost=cost, stamp=stamp)
            self._ground.count(policy.name, "postgres", "admitted", served)
            for ask in asks[:served]:
                if not ask.future.done():
                    ask.future.set_result(yes if ask.cost == cost else yes._replace(cost=ask.cost))
        if served < len(asks):
            no = decision(policy, quotas, allowed=False, source="postgres", key=identity.key, cost=cost)
            self._ground.count(policy.name, "postgres", "shadowed" if no.shadowed else "refused", len(asks) - served)
            for ask in asks[served:]:
                if not ask.future.done():
                    ask.future.set_result(no)
        identity.is_allowed = answer.verdict == "allow"
        if not policy.shadow and not seat.together and any(quota.retry_after > 0 for quota in quotas):
            self._ground.full(seat.policy, identity, quotas, cost, began)

    def read(self, policy: Policy, identity: Identity, cost: int, answer: Answer) -> Decision:
        """A decision from an answer that charged nothing."""
        quotas = _quotas(policy if answer.limits is None else self._ruled(policy, identity, answer), answer)
        allowed = answer.verdict == "allow" or (not answer.verdict and all(quota.retry_after <= 0 for quota in quotas))
        return decision(policy, quotas, allowed=allowed, source="postgres", key=identity.key, cost=cost)

    def _ruled(self, policy: Policy, identity: Identity, answer: Answer) -> Policy:
        if answer.limits is None:
            identity.rule = None
            return policy
        if identity.rule is None or identity.rule.limits != answer.limits:
            identity.rule = Policy(answer.limits, policy.name, policy.without_postgres, policy.shadow)
        return identity.rule

    def _set_off(self, seat: _Seat, granted: int, stamp: int) -> None:
        """Memory has answered these asks, and lent what it admitted: what Postgres granted now pays for that."""
        identity = seat.identity
        lent = sum(units for _, units in identity.lent or ())
        surplus = granted - min(granted, lent)
        identity.forgive(granted)
        if surplus and identity.digest is not None:
            self._refunds.append((seat.policy, identity.digest, stamp, surplus))

    async def _refund(self, policy: Policy, key: str, stamp: int, units: int) -> None:
        try:
            await self._line.call(rate_limit_refund(policy, key, stamp, units))
        except DatabaseError as error:
            self._line.lost(str(error))


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


def _quotas(policy: Policy, answer: Answer) -> tuple[Quota, ...]:
    numbers = answer.numbers
    if answer.verdict is not None:
        left = DAY if numbers[2] is None else numbers[2] / 1e6
        if answer.verdict == "allow":
            return tuple([Quota(limit, limit.capacity, 0.0, 0.0) for limit in policy.limits])
        return tuple([Quota(limit, 0, left, left) for limit in policy.limits])
    found = []
    for place, limit in enumerate(policy.limits):
        room, wait, reset = numbers[3 * place + 2 : 3 * place + 5]
        found.append(Quota(limit, room or 0, (wait or 0) / 1e6, (reset or 0) / 1e6))
    return tuple(found)
