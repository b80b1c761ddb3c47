"""What the routes work with: one object, made once, kept on the application's state."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import Request

from holdfast.core.bell import BellRoutes
from holdfast.core.counts import Counts
from holdfast.core.health import Limiter, Limits, Pool, Process
from holdfast.core.kind import Kind
from holdfast.core.ratelimit import Policy
from holdfast.postgres.ledger import LedgerPool
from holdfast.services.background import LONGEST_TURN
from holdfast.services.bell_lines import lines_of_enqueuer
from holdfast.services.changes import Changes
from holdfast.services.enqueuer import Enqueuer
from holdfast.services.health import HealthWatch, Rhythm
from holdfast.services.issuer import Issuer, IssuerSettings
from holdfast.services.keyring import KeyRing
from holdfast.services.limiter import LimiterReport, RateLimiter
from holdfast.services.operations import Operations
from holdfast.services.sessions import Sessions
from holdfast.services.sqs_watch import SqsWatch, WatchedQueue
from holdfast.web.identity import Network

#: Connections for requests; health and limiter have one each of their own.
POOL = 4


@dataclass(frozen=True)
class ApiSettings:
    """What the API needs to know. `timeout`: seconds that a request may wait for the ledger.

    `kinds` are those of the application, if one was given: then arguments are checked and unknown kinds refused.
    `is_private`: it listens on this machine only. `read_only`: nothing is changed through it. `redact`: further names
    of values that no page shows.
    """

    dsn: str
    schema_version: int
    is_private: bool = True
    timeout: float = 5.0
    stale_after: float = 600.0
    rate_limit: Policy = field(default_factory=lambda: Policy.parse("100/minute", name="default"))
    rate_limit_headers: Sequence[str] = ("draft-11",)
    trusted_proxies: Sequence[Network] = ()
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    rhythm: Rhythm = field(default_factory=Rhythm)
    bells: BellRoutes = field(default_factory=BellRoutes)
    sqs_queues: Sequence[WatchedQueue] = ()
    channels: Sequence[str] = ()
    read_only: bool = False
    redact: Sequence[str] = ()
    issuer: IssuerSettings = field(default_factory=IssuerSettings)


class ApiServices:
    """Everything in the background of the API: started with it, stopped with it."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.ledger = LedgerPool(settings.dsn, size=POOL, name="holdfast api", deadline=settings.timeout)
        self._lines = lines_of_enqueuer(self.ledger, settings.bells)
        self.enqueuer = Enqueuer(self.ledger, self._lines.ring if self._lines else None)
        self.counts = Counts()
        self.sqs = SqsWatch(settings.sqs_queues)
        self.limiter = RateLimiter(settings.dsn)
        # A turn of it makes two calls, and an outage is no reason to restart anything.
        self.ring = KeyRing(self.ledger, turns_within=LONGEST_TURN + 2 * settings.timeout)
        self.sessions = Sessions(self.ledger)
        self.issuer = Issuer(settings.issuer)
        self.changes = Changes(self.ledger)
        self.operations = Operations(self.ledger)
        self.watch = HealthWatch(
            settings.dsn,
            schema_version=settings.schema_version,
            stale_after=settings.stale_after,
            limits=settings.limits,
            rhythm=settings.rhythm,
            process=self._process,
        )

    async def start(self) -> None:
        """Begin; returns at once, whether or not the ledger answers."""
        for service in self._loops:
            await service.start()

    async def stop(self) -> None:
        """End all, and close the connections."""
        await asyncio.gather(*(service.stop() for service in self._loops), self._write_out())
        await self.ledger.close()

    def stuck(self) -> list[str]:
        """Which of the loops in the background do not turn; each is to turn for as long as the process lives."""
        loops = [self.ring.loop, self.sqs.loop, self.changes.loop, self.operations.loop]
        loops += [self.issuer.loop] if self.issuer.loop.is_running else []
        loops += [self.limiter.loop] if self.limiter.loop else []
        return self.watch.stuck() + [loop.problem for loop in loops if loop.problem]

    @property
    def _loops(self) -> "Sequence[HealthWatch | RateLimiter | KeyRing | Issuer | SqsWatch | Changes | Operations]":
        return (self.watch, self.limiter, self.ring, self.issuer, self.sqs, self.changes, self.operations)

    async def _write_out(self) -> None:
        await self.enqueuer.idle()
        if self._lines is not None:
            await self._lines.close()

    def _process(self) -> Process:
        return Process(
            limiter=_seen(self.limiter.report()),
            pool=Pool(*self.ledger.usage()),
            sqs=self.sqs.seen,
            channels=tuple(self.settings.channels),
        )


def _seen(report: LimiterReport) -> Limiter:
    def made(outcome: str) -> int:
        return sum(number for (_, _, each), number in report.decisions.items() if each == outcome)

    return Limiter(
        report.mode,
        report.mode_for,
        made("admitted"),
        made("refused"),
        report.identities,
        report.debtors,
        report.is_full,
        report.lacks_schema,
    )


def services_of(request: Request) -> ApiServices:
    """The services of the application that answers this request."""
    found = request.app.state.holdfast
    assert isinstance(found, ApiServices)
    return found
