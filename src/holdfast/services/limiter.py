"""The rate limiter: exact over all instances while Postgres answers, and by the same rule in memory while it does not.

Callers that come while a round trip is under way share the next one. A round trip has a deadline that a request can
afford. When it is missed, memory decides from the next request on, and a task in the background, never a request,
finds out when Postgres is back.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.core.ratelimit import Decision, Limit, MemoryLog, Source
from holdfast.errors import DatabaseError, InvalidArguments
from holdfast.postgres import calls, reads
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.batcher import Batcher

_log = logging.getLogger("holdfast")

#: Seconds: for a look at whether Postgres is back, and between such looks.
PROBE_DEADLINE = 5.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
MOST_IN_A_FLIGHT = 500


@dataclass(frozen=True)
class _Hit:
    key: str
    limit: Limit
    cost: int


class RateLimiter:
    """Decides whether requests are admitted. `deadline`: seconds that a decision may wait for Postgres.

    limiter = RateLimiter(dsn)
    await limiter.start()
    decision = await limiter.hit("user:42", Limit.parse("100/minute"))
    if not decision.allowed: ...  # try again after decision.retry_after seconds
    """

    def __init__(self, dsn: str, *, deadline: float = 0.05, most_keys: int = 10_000) -> None:
        self._ledger = AsyncLedger(dsn, name="holdfast limiter", deadline=PROBE_DEADLINE)
        self._deadline = deadline
        self._memory = MemoryLog(most_keys)
        self._batcher: Batcher[_Hit, Decision] = Batcher(self._decide, max_items=MOST_IN_A_FLIGHT)
        self._mode: Source = "memory"
        self._lost = asyncio.Event()
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def mode(self) -> Source:
        """Who decides now: `postgres`, or `memory` while it does not answer."""
        return self._mode

    async def start(self) -> None:
        """Begin to look for Postgres; returns at once, and until it is found memory decides."""
        self._lost.set()
        self._looked.clear()
        self._task = asyncio.create_task(self._keep_looking())

    async def looked(self, timeout: float = 1.0) -> None:
        """Wait until the first look for Postgres has ended, for `timeout` seconds at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), timeout)

    async def stop(self) -> None:
        """End, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._batcher.idle()
        await self._ledger.close()

    async def hit(self, key: str, limit: Limit, *, cost: int = 1) -> Decision:
        """Ask for one request of this identity, or for `cost` of them at once. Never raises for want of Postgres."""
        if not 1 <= cost <= limit.most:
            raise InvalidArguments(f"cost is {cost}; it must be from 1 to the limit, {limit.most}")
        return await self._batcher.submit(_Hit(hashlib.sha256(key.encode()).hexdigest()[:32], limit, cost))

    async def _decide(self, hits: Sequence[_Hit]) -> list[Decision]:
        if self._mode == "postgres":
            try:
                return await self._ask(hits)
            except DatabaseError as error:
                self._switch("memory", str(error))
                self._lost.set()
        now = time.monotonic()
        return [self._memory.hit(hit.key, hit.limit, hit.cost, now) for hit in hits]

    async def _ask(self, hits: Sequence[_Hit]) -> list[Decision]:
        """One flight. An identity may stand in it only once: units of the same one are asked for in one sum."""
        decided: dict[int, Decision] = {}
        waiting = list(enumerate(hits))
        until = time.monotonic() + self._deadline
        while waiting:
            flight, waiting = _one_flight(waiting)
            asked = [_asked([hits[place] for place in places]) for places in flight]
            left = max(until - time.monotonic(), 0.001)
            answers = await self._ledger.call(calls.rate_limit_hits(asked), deadline=left)
            for places, answer in zip(flight, answers, strict=True):
                decided.update(self._share_out(hits, places, answer))
        return [decided[place] for place in range(len(hits))]

    def _share_out(self, hits: Sequence[_Hit], places: list[int], answer: calls.RateLimitAnswer) -> dict[int, Decision]:
        """First come, first served, among those who asked together."""
        limit = hits[places[0]].limit
        left, now = answer.granted, time.monotonic()
        decided = {}
        if left:
            self._memory.note(hits[places[0]].key, limit, left, now)
        for place in places:
            cost = hits[place].cost
            allowed = cost <= left
            left -= cost * allowed
            remaining = answer.remaining + left
            decided[place] = Decision(
                allowed, limit, remaining, 0.0 if allowed else answer.retry_after, answer.reset_after, "postgres"
            )
        return decided

    async def _keep_looking(self) -> None:
        """Wait until Postgres is lost, and then until it is back."""
        pause = SHORTEST_PAUSE
        while True:
            await self._lost.wait()
            try:
                await self._ledger.one(reads.ping())
                await self._ledger.call(calls.rate_limit_hits([]))
            except DatabaseError:
                self._looked.set()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            except Exception:
                _log.exception("the rate limiter's look for Postgres failed in an unforeseen way")
                await asyncio.sleep(LONGEST_PAUSE)
                continue
            pause = SHORTEST_PAUSE
            self._lost.clear()
            self._switch("postgres", "it answers")
            self._looked.set()

    def _switch(self, mode: Source, why: str) -> None:
        if mode != self._mode:
            self._mode = mode
            _log.log(logging.WARNING if mode == "memory" else logging.INFO, "rate limits are kept in %s: %s", mode, why)


def _one_flight(waiting: list[tuple[int, _Hit]]) -> tuple[list[list[int]], list[tuple[int, _Hit]]]:
    """Who flies now, by identity, and who waits: single units of an identity together, larger costs one by one."""
    flight: dict[tuple[str, str], list[int]] = {}
    closed: set[tuple[str, str]] = set()
    later = []
    for place, hit in waiting:
        identity = (hit.limit.policy, hit.key)
        if identity in closed or (identity in flight and hit.cost > 1):
            closed.add(identity)
            later.append((place, hit))
            continue
        flight.setdefault(identity, []).append(place)
        if hit.cost > 1:
            closed.add(identity)
    return list(flight.values()), later


def _asked(hits: Sequence[_Hit]) -> calls.RateLimitAsked:
    first = hits[0]
    units = min(sum(hit.cost for hit in hits), first.limit.most)
    return calls.RateLimitAsked(
        first.limit.policy, first.key, units, first.limit.most, first.limit.window, first.cost > 1
    )
