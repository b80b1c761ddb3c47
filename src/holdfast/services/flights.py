"""Round trips of the rate limiter, shared: who asks while one is under way travels in the next, one row an identity.

There is no timer that collects: a lone request leaves at once, and a busy process fills its flights by itself. Each
flight has one deadline. When it is missed, everybody who waits is answered from memory, and the flight is waited for
all the same: what it brings late is set off against what memory admitted meanwhile.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from typing import NamedTuple, Protocol, TypeVar

from holdfast.core.ratelimit import Decision, Policy, Quota, decision
from holdfast.errors import DatabaseError
from holdfast.postgres.calls import Call
from holdfast.postgres.rate_limit import Answer, limits_of, rate_limit_hits, rate_limit_refund
from holdfast.services.identities import Identity, hashed
from holdfast.services.limiter_counts import Counts

_log = logging.getLogger("holdfast")
Row = TypeVar("Row")

#: More would keep Postgres waiting while this process reads answers, and this process while Postgres decides.
MOST_IN_A_FLIGHT = 128
#: A second flight leaves while one is in the air when so many identities wait: then Postgres decides the one while this
#: process reads the other. With fewer they are better off together.
MOST_IN_THE_AIR, CROWD = 2, 64
#: Seconds of grace where the timer itself was late, since then the loop stood still and not Postgres.
GRACE = 0.01
#: Seconds that a remembered block without an end is remembered.
DAY = 86_400.0
MOST_REFUNDS = 1000


#: Who waits: under which policy, for how many units, and where the decision goes.
_Ask = tuple[Policy, int, "asyncio.Future[Decision]"]


class _Seat(NamedTuple):
    """One identity in a flight: the asks that fly, which share policy and cost, and the debt that flies with them."""

    identity: Identity
    policy: Policy
    cost: int
    asks: list[_Ask]
    debt: int
    together: bool


class _Flight:
    """A round trip under way. `spare`: it has the second connection."""

    __slots__ = ("is_late", "seats", "spare")

    def __init__(self, seats: list[_Seat], *, spare: bool) -> None:
        self.seats = seats
        self.spare = spare
        self.is_late = False


class _Ground(Protocol):
    """What flights need of the limiter."""

    counts: Counts

    def alone(self, policy: Policy, identity: Identity, cost: int, now: float) -> Decision: ...
    def full(self, policy: Policy, identity: Identity, quotas: tuple[Quota, ...], cost: int, at: float) -> None: ...


class _Line(Protocol):
    """What flights need of the link to Postgres."""

    secret: bytes | None

    @property
    def is_up(self) -> bool: ...
    async def call(self, call: Call[Row], *, spare: bool) -> list[Row]: ...
    def late(self) -> None: ...
    def landed(self, *, late: bool, others_late: bool) -> None: ...
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
        self._air: list[_Flight] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_called = False
        self._refunds: deque[tuple[Policy, str, int, int]] = deque(maxlen=MOST_REFUNDS)
        self._times: deque[float] = deque(maxlen=512)

    def ask(self, policy: Policy, identity: Identity, cost: int) -> "asyncio.Future[Decision]":
        """Queue a request; the future ends with its decision, within two deadlines."""
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        asks = self._waiting.get(identity)
        if asks is None:
            self._waiting[identity] = [(policy, cost, future)]
        else:
            asks.append((policy, cost, future))
        if not self._is_called:
            self.call_next()
        return future

    def call_next(self) -> None:
        """Let a flight take off at the end of this turn of the loop, so that all who ask in it come along."""
        if not self._is_called:
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._take_off)

    def let_go(self, identity: Identity) -> bool:
        """Whether nobody waits for an answer about this identity; its debts are void then."""
        if identity in self._waiting:
            return False
        self.debtors.pop(identity, None)
        return True

    async def idle(self) -> None:
        """Wait until everything asked so far has been answered; flights that are late already are given up."""
        while self._tasks or self._is_called:
            for task in self._tasks if any(flight.is_late for flight in self._air) else ():
                task.cancel()
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    def quantiles(self) -> tuple[float | None, float | None]:
        """Half of the last round trips took less than the first, and 99 of 100 less than the second (seconds)."""
        times = sorted(self._times)
        return (times[len(times) // 2], times[len(times) * 99 // 100]) if times else (None, None)

    def _take_off(self) -> None:
        self._is_called = False
        if not self._line.is_up or any(flight.is_late for flight in self._air):
            # Beside a late flight there may be no room for another, and nobody waits for it.
            self._answer_alone()
            return
        while not self._air or (len(self._air) < MOST_IN_THE_AIR and len(self._waiting) >= CROWD):
            seats = self._board()
            if not seats and not self._refunds:
                return
            flight = _Flight(seats, spare=bool(self._air) and not self._air[0].spare)
            self._air.append(flight)
            task = asyncio.get_running_loop().create_task(self._fly(flight))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _board(self) -> list[_Seat]:
        now = time.monotonic()
        seats: list[_Seat] = []
        for identity in list(itertools.islice(self._waiting, MOST_IN_A_FLIGHT)):
            if identity.flying:
                continue
            asks = self._waiting.pop(identity)
            policy, cost, together = asks[0][0], asks[0][1], False
            alike = _alike(asks) if len(asks) > 1 else 1
            if alike < len(asks):
                if identity.is_mixed or not _can_go_together(asks):
                    self._waiting[identity] = asks[alike:]
                    asks = asks[:alike]
                else:
                    together, cost = True, sum(units for _, units, _ in asks)
            debt = self._debt(identity, policy, now) if identity.lent else 0
            identity.flying = True
            seats.append(_Seat(identity, policy, cost, asks, debt, together))
        for identity in list(itertools.islice(self.debtors, MOST_IN_A_FLIGHT - len(seats))):
            policy = self.debtors[identity]
            if not identity.flying and (debt := self._debt(identity, policy, now)):
                identity.flying = True
                seats.append(_Seat(identity, policy, 1, [], debt, together=False))
        return seats

    def _debt(self, identity: Identity, policy: Policy, now: float) -> int:
        debt = min(identity.debt(policy.longest, now), max(limit.most for limit in policy.limits))
        identity.charging, identity.lent = identity.lent, None
        self.debtors.pop(identity, None)
        return debt

    async def _fly(self, flight: _Flight) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.deadline, self._missed, flight, loop.time() + self.deadline, True)
        try:
            while self._refunds:
                await self._line.call(rate_limit_refund(*self._refunds.popleft()), spare=flight.spare)
            if flight.seats:
                await self._carry(flight)
        except BaseException as error:
            self._give_back(flight)
            self._line.lost(str(error) or "the limiter stops")
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, DatabaseError):
                _log.exception("a flight of the rate limiter failed in an unforeseen way")
        finally:
            timer.cancel()
            self._air.remove(flight)
            for seat in flight.seats:
                seat.identity.flying, seat.identity.charging = False, None
            if self._waiting or self.debtors or self._refunds:
                self.call_next()

    async def _carry(self, flight: _Flight) -> None:
        seats = flight.seats
        call = rate_limit_hits(
            [seat.policy for seat in seats],
            [seat.identity.digest or self._hash(seat.identity) for seat in seats],
            [seat.cost for seat in seats],
            [1 if seat.together else len(seat.asks) for seat in seats],
            [seat.debt for seat in seats],
        )
        began = time.monotonic()
        answers = await self._line.call(call, spare=flight.spare)
        self.flown += 1
        self._times.append(time.monotonic() - began)
        for answer in answers:
            seat = seats[answer[0] - 1]
            if flight.is_late:
                self._set_off(seat, answer, began)
            else:
                self._land(seat, answer, began)
        self._line.landed(
            late=flight.is_late, others_late=any(each.is_late for each in self._air if each is not flight)
        )

    def _hash(self, identity: Identity) -> str:
        assert self._line.secret is not None
        identity.digest = hashed(self._line.secret, identity.key)
        return identity.digest

    def _missed(self, flight: _Flight, due: float, may_wait: bool) -> None:
        loop = asyncio.get_running_loop()
        if flight not in self._air:
            return
        if may_wait and loop.time() - due > GRACE:
            loop.call_later(GRACE, self._missed, flight, due, False)
            return
        self._line.late()
        self._answer_alone()

    def _answer_alone(self) -> None:
        """Everybody who waits is answered from memory, and what is in the air comes too late."""
        now = time.monotonic()
        waiting, self._waiting = self._waiting, {}
        for flight in self._air:
            flight.is_late = True
        flying = [(seat.identity, seat.asks) for flight in self._air for seat in flight.seats]
        for identity, asks in [*flying, *waiting.items()]:
            for policy, cost, future in asks:
                if not future.done():
                    future.set_result(self._ground.alone(policy, identity, cost, now))

    def _give_back(self, flight: _Flight) -> None:
        """A flight was lost: nobody can know what Postgres has kept of it, so debts stay, and memory answers."""
        for seat in flight.seats:
            if seat.debt:
                seat.identity.take_back()
                self.debtors[seat.identity] = seat.policy
        self._answer_alone()

    def _land(self, seat: _Seat, answer: Answer, began: float) -> None:
        identity, asks = seat.identity, seat.asks
        _, numbers, verdict, _ = answer
        granted = numbers[0] or 0
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
        cost = asks[0][1] if seat.together else seat.cost
        served = len(asks) if seat.together else granted // seat.cost
        identity.known, identity.known_at = quotas, began
        stamp = numbers[1] or 0
        if served:
            yes = decision(policy, quotas, allowed=True, source="postgres", key=identity.key, cost=cost, stamp=stamp)
            self._ground.counts.add(policy.name, "postgres", "admitted", served)
            for _, units, future in asks if served == len(asks) else asks[:served]:
                if not future.done():
                    future.set_result(yes if not seat.together else yes._replace(cost=units))
        if served < len(asks):
            no = decision(policy, quotas, allowed=False, source="postgres", key=identity.key, cost=cost)
            self._ground.counts.add(
                policy.name, "postgres", "shadowed" if no.shadowed else "refused", len(asks) - served
            )
            for _, _, future in asks[served:]:
                if not future.done():
                    future.set_result(no)
        identity.is_allowed = verdict == "allow"
        if not policy.shadow and not seat.together and any(quota.retry_after > 0 for quota in quotas):
            self._ground.full(seat.policy, identity, quotas, cost, began)

    def read(self, policy: Policy, identity: Identity, cost: int, answer: Answer) -> Decision:
        """A decision from an answer that charged nothing."""
        quotas = _quotas(self._ruled(policy, identity, answer), answer)
        allowed = answer[2] != "block" and all(quota.retry_after <= 0 for quota in quotas)
        return decision(policy, quotas, allowed=allowed, source="postgres", key=identity.key, cost=cost)

    def _ruled(self, policy: Policy, identity: Identity, answer: Answer) -> Policy:
        rule = answer[3]
        if rule is None:
            identity.rule = None
            return policy
        limits = limits_of(rule)
        if identity.rule is None or identity.rule.limits != limits:
            identity.rule = Policy(limits, policy.name, policy.without_postgres, policy.shadow)
        return identity.rule

    def _set_off(self, seat: _Seat, answer: Answer, began: float) -> None:
        """Memory has answered these asks, and lent what it admitted: what Postgres granted now pays for that."""
        identity, granted, stamp = seat.identity, answer[1][0] or 0, answer[1][1] or 0
        identity.known, identity.known_at = _quotas(self._ruled(seat.policy, identity, answer), answer), began
        lent = sum(units for _, units in identity.lent or ())
        surplus = granted - min(granted, lent)
        identity.forgive(granted)
        if surplus and identity.digest is not None:
            self._refunds.append((seat.policy, identity.digest, stamp, surplus))


def _can_go_together(asks: list[_Ask]) -> bool:
    """Whether these could all be admitted at once, so that one question is enough for them."""
    policy = asks[0][0]
    return all(given is policy for given, _, _ in asks) and sum(cost for _, cost, _ in asks) <= policy.capacity


def _alike(asks: list[_Ask]) -> int:
    """How many of the first ask the same."""
    policy, cost, _ = asks[0]
    for place, (given, units, _) in enumerate(asks):
        if given is not policy or units != cost:
            return place
    return len(asks)


def _quotas(policy: Policy, answer: Answer) -> tuple[Quota, ...]:
    _, numbers, verdict, _ = answer
    if verdict is not None:
        left = DAY if numbers[2] is None else numbers[2] / 1e6
        if verdict == "allow":
            return tuple([Quota(limit, limit.capacity, 0.0, 0.0) for limit in policy.limits])
        return tuple([Quota(limit, 0, left, left) for limit in policy.limits])
    if len(numbers) == 5:
        _, _, room, wait, reset = numbers
        return (Quota(policy.limits[0], room or 0, (wait or 0) / 1e6, (reset or 0) / 1e6),)
    found = []
    for place, limit in enumerate(policy.limits):
        room, wait, reset = numbers[3 * place + 2 : 3 * place + 5]
        found.append(Quota(limit, room or 0, (wait or 0) / 1e6, (reset or 0) / 1e6))
    return tuple(found)
