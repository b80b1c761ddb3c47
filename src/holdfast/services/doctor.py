"""The doctor: examines a running deployment from outside, as its users meet it, and says what to do about what is
wrong.

It looks at the real parts: it asks the API over HTTP, the database with the objects' own names, sends a job all the
way, and hits the limit with a key of its own. A check that cannot be made says so; none waits for longer than its
deadline.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from uuid import UUID

from holdfast.core.api_keys import Role, make_key
from holdfast.core.findings import Finding, Verdict
from holdfast.core.health import Report
from holdfast.errors import DatabaseError, NeedsConnection
from holdfast.postgres.health import health_report
from holdfast.postgres.keys import create_api_key
from holdfast.services.checks import (
    alerts,
    api,
    jobs,
    ledger,
    limit_table,
    limits,
    queues,
    restarts,
    routes,
    workers,
)
from holdfast.services.checks.deployment import Deployment

#: Seconds: for one check, and how long its canary key is valid.
DEADLINE = 30.0
KEY_VALID_FOR = 300.0

#: The lines that are not looked at where the database, a look at the ledger, or the API is missing: id and component.
_OF_THE_SCHEMA = {
    "migrations.head": "migrations",
    "schema.complete": "schema",
    "schema.rate_limit_requests": "rate_limit_requests",
    "schema.find_stale_jobs": "find_stale_jobs()",
    "schema.stale_jobs_view": "stale_jobs_view",
    **limit_table.LINES,
}
_OF_THE_API = {
    "health.status": "health endpoint",
    "health.private": "health endpoint",
    "limits.refuse": "rate limits",
}


class Doctor:
    """Examines one deployment. `new_id` makes ids of jobs."""

    def __init__(self, deployment: Deployment, *, new_id: Callable[[], UUID]) -> None:
        self._deployment = deployment
        self._new_id = new_id

    async def examine(self) -> AsyncIterator[Finding]:
        """Each finding as it comes. Never raises for what is wrong with the deployment: that is what it tells."""
        deployment = self._deployment
        database = await ledger.check_database(deployment)
        yield database
        if deployment.detour:
            yield Finding("database.connection", "connection", Verdict.SKIP, deployment.detour)
        if deployment.target is not None and (deployment.target.is_supabase or database.verdict is not Verdict.PASS):
            works = database.verdict is Verdict.PASS
            ways = routes.check_routes(deployment.target, deployment.https, seen_working=works)
            for finding in await _guarded("check_routes", ways):
                yield finding
        if database.verdict is Verdict.PASS:
            async for finding in self._ledger_side():
                yield finding
            deployment = replace(deployment, canary=await self._canary_key())
        else:
            for finding in _skipped({**_OF_THE_SCHEMA, **self._of_the_report()}, "needs the database"):
                yield finding
        for finding in await _guarded("check_queues", queues.check_queues(deployment.queues)):
            yield finding
        slack = alerts.check_slack(deployment.slack, send_test=deployment.send_test)
        for finding in await _guarded("check_slack", slack):
            yield finding
        answers = await api.check_api(deployment)
        yield answers
        if answers.verdict is not Verdict.PASS:
            for finding in _skipped(_OF_THE_API, "needs the API"):
                yield finding
            return
        for check in (api.check_health, api.check_privacy, limits.check_limits):
            for finding in await _guarded(check.__name__, check(deployment)):
                yield finding

    async def _ledger_side(self) -> AsyncIterator[Finding]:
        deployment = self._deployment
        for check in (
            ledger.check_migrations,
            ledger.check_schema,
            ledger.check_objects,
            limit_table.check_limit_table,
        ):
            for finding in await _guarded(check.__name__, check(deployment)):
                yield finding
        try:
            report: Report = await deployment.ledger.one(health_report(deployment.stale_after))
        except Exception as error:
            found = f"the ledger cannot be looked at: {_reason(error)}"
            fix = "holdfast migrate status tells what is missing, holdfast migrate up brings it"
            yield Finding("workers.live", "workers", Verdict.FAIL, found, fix=fix)
            for finding in _skipped(self._of_the_report(), "needs a look at the ledger"):
                if finding.id != "workers.live":
                    yield finding
            return
        yield workers.check_workers(report)
        for finding in workers.check_monitors(report, has_queues=bool(deployment.queues)):
            yield finding
        for finding in await _guarded("check_jobs", jobs.check_jobs(deployment.ledger, report, self._new_id)):
            yield finding
        for finding in await _guarded("check_restarts", restarts.check_restarts(deployment)):
            yield finding

    def _of_the_report(self) -> dict[str, str]:
        """The lines that a look at the ledger tells of."""
        monitors = workers.names(has_queues=bool(self._deployment.queues)).values()
        of_monitors = {workers.id_of(name): name for name in monitors}
        return {"workers.live": "workers", **of_monitors, "jobs.end_to_end": "jobs", "settings.in_force": "settings"}

    async def _canary_key(self) -> str | None:
        """A key for a few minutes that may only look, and that is counted apart."""
        chance = random.SystemRandom()
        made = make_key(chance.randbytes(5), chance.randbytes(32))
        call = create_api_key(made.id, "holdfast verify", Role.CANARY, made.secret_hash, KEY_VALID_FOR)
        try:
            return made.token if await self._deployment.ledger.call(call) else None
        except DatabaseError:
            return None


async def _guarded(name: str, check: Awaitable[Finding | list[Finding]]) -> list[Finding]:
    """The findings of a check; one that breaks or hangs is a finding too."""
    component = name.removeprefix("check_").replace("_", " ")
    try:
        async with asyncio.timeout(DEADLINE):
            found = await check
    except TimeoutError:
        return [Finding(f"{component}.ended", component, Verdict.FAIL, f"did not end within {DEADLINE:g} s")]
    except NeedsConnection as error:
        return [Finding(f"{component}.ended", component, Verdict.SKIP, _reason(error))]
    except Exception as error:
        return [Finding(f"{component}.ended", component, Verdict.FAIL, f"could not be looked at: {_reason(error)}")]
    return found if isinstance(found, list) else [found]


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _skipped(lines: Mapping[str, str], reason: str) -> list[Finding]:
    return [Finding(id, component, Verdict.SKIP, reason) for id, component in lines.items()]
