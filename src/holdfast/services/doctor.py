"""The doctor: examines a running deployment from outside, as its users meet it, and says what to do about what is
wrong.

It looks at the real parts: it asks the API over HTTP, the database with the objects' own names, sends a job all the
way, and hits the limit with a key of its own. All checks run side by side, each within its deadline; their lines come
in the same order each time. A check that cannot be made says so.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from holdfast.core.api_keys import Role, make_key
from holdfast.core.findings import Finding, Verdict
from holdfast.core.health import Report
from holdfast.errors import DatabaseError, NeedsConnection
from holdfast.postgres.health import health_report
from holdfast.postgres.keys import create_api_key
from holdfast.services.checks import (
    access,
    alerts,
    api,
    drift,
    end_to_end,
    jobs,
    ledger,
    limit_table,
    limits,
    queues,
    restarts,
    routes,
    server,
    timing,
    workers,
)
from holdfast.services.checks.deployment import Deployment

#: Seconds: for one check, for those that wait for a notice, and how long its canary key is valid.
DEADLINE = 30.0
LONG_DEADLINE = 150.0
KEY_VALID_FOR = 300.0

#: The lines that are not looked at where the database, the schema, a look at the ledger, or the API is missing: id and
#: component.
_OF_THE_SERVER = server.NAMES
_OF_THE_SCHEMA = {
    "migrations.head": "migrations",
    **drift.NAMES,
    "schema.rate_limit_requests": "rate_limit_requests",
    "schema.find_stale_jobs": "find_stale_jobs()",
    "schema.stale_jobs_view": "stale_jobs_view",
    **access.NAMES,
    **limit_table.LINES,
}
_OF_THE_API = {
    "health.status": "health endpoint",
    "health.private": "health endpoint",
    "limits.refuse": "rate limits",
}

Found = Finding | list[Finding]


@dataclass(frozen=True)
class _Look:
    """One check under way: the lines it brings, and its findings."""

    names: Mapping[str, str]
    found: "asyncio.Task[list[Finding]]"


class Doctor:
    """Examines one deployment. `new_id` makes ids of jobs; `only` are ids, or their beginnings, of the lines wanted."""

    def __init__(self, deployment: Deployment, *, new_id: Callable[[], UUID], only: Collection[str] = ()) -> None:
        self._deployment = deployment
        self._new_id = new_id
        self._only = only

    async def examine(self) -> AsyncIterator[Finding]:
        """Each finding as it comes. Never raises for what is wrong with the deployment: that is what it tells."""
        database = await ledger.check_database(self._deployment)
        answers = database.verdict is Verdict.PASS
        if answers:
            self._deployment = replace(self._deployment, canary=await self._canary_key())
        looks = await self._ledger_side() if answers else []
        looks += self._sides(answers)
        try:
            # What stands in the way of others is told, whether it was asked for or not.
            if self._wants(database.id) or not answers:
                yield database
            if self._deployment.detour and self._wants("database.connection"):
                yield Finding("database.connection", "connection", Verdict.SKIP, self._deployment.detour)
            if not answers:
                for finding in self._skipped(
                    {**self._of_the_database(), **self._of_the_report()}, "needs the database"
                ):
                    yield finding
            for look in looks:
                for finding in await look.found:
                    if self._wants(finding.id) or finding.id not in look.names:
                        yield finding
        finally:
            # Waited for, so that nothing interrupts them once more while they take their canaries back.
            tasks = [look.found for look in looks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def lines(self) -> dict[str, str]:
        """Every line that there can be here: its id, and its component."""
        sqs = {
            f"sqs.{queue.role}.{what}": f"SQS {queue.role}"
            for queue in self._deployment.queues
            for what in ("answers", "redrive", "visibility")
            if what == "answers" or queue.role != "dead letters"
        }
        return {
            "database.answers": "database",
            **self._of_the_database(),
            **self._of_the_report(),
            **self._of_the_ways(),
            **(sqs or {"sqs.queues": "SQS bells"}),
            "alerts.slack": "Slack",
            "api.answers": "API",
            **_OF_THE_API,
        }

    # The sides of a deployment ------------------------------------------------------------

    async def _ledger_side(self) -> list[_Look]:
        deployment = self._deployment
        looks = [
            self._begin(_OF_THE_SERVER, "server", server.check_server),
            self._begin({"migrations.head": "migrations"}, "migrations", ledger.check_migrations),
            self._begin(drift.NAMES, "schema", drift.check_drift),
            self._begin(_objects(), "objects", ledger.check_objects),
            self._begin(access.NAMES, "access", access.check_access),
            self._begin(limit_table.LINES, "limit table", limit_table.check_limit_table),
        ]
        try:
            report: Report = await deployment.ledger.one(health_report(deployment.stale_after))
        except Exception as error:
            return [*looks, _done(self._of_the_report(), self._blind(error))]
        told = [workers.check_workers(report), *workers.check_monitors(report, has_queues=bool(deployment.queues))]
        looks.append(_done(self._of_workers(), told))
        new_id = self._new_id
        looks += [
            self._begin(timing.NAMES, "beats", timing.check_beats),
            self._begin(timing.NAMES, "drain", timing.check_drain),
            self._begin({"jobs.end_to_end": "jobs"}, "jobs", lambda it: jobs.check_jobs(it, report, new_id)),
            self._begin({"settings.in_force": "settings"}, "restarts", restarts.check_restarts),
        ]
        if deployment.e2e:
            looks += [
                self._begin(end_to_end.NAMES, "e2e", lambda it: end_to_end.check_timing(it, report, new_id)),
                self._begin(
                    end_to_end.NAMES,
                    "e2e death",
                    lambda it: end_to_end.check_death(it, report, new_id),
                    deadline=LONG_DEADLINE,
                ),
            ]
        return looks

    def _sides(self, answers: bool) -> list[_Look]:
        deployment = self._deployment
        ways: list[_Look] = []
        target = deployment.target
        if target is not None and (target.is_supabase or not answers or self._asks_for_ways):
            way = routes.check_routes(target, deployment.https, seen_working=answers)
            ways.append(self._begin(routes.NAMES, "routes", lambda _: way))
        return [
            *ways,
            self._begin({"sqs": "SQS"}, "queues", lambda _: queues.check_queues(deployment.queues)),
            self._begin(
                {"alerts.slack": "Slack"},
                "slack",
                lambda _: alerts.check_slack(deployment.slack, send_test=deployment.send_test),
            ),
            self._begin({"api.answers": "API", **_OF_THE_API}, "api", self._api_side, deadline=3 * DEADLINE),
        ]

    async def _api_side(self, deployment: Deployment) -> list[Finding]:
        answers = await api.check_api(deployment)
        if answers.verdict is not Verdict.PASS:
            return [answers, *_skip(_OF_THE_API, "needs the API")]
        checks = {
            "health.status": api.check_health,
            "health.private": api.check_privacy,
            "limits.refuse": limits.check_limits,
        }
        wanted = [_guarded(name, check(deployment)) for name, check in checks.items() if self._wants(name)]
        return [answers, *(finding for found in await asyncio.gather(*wanted) for finding in found)]

    # How they are looked at ------------------------------------------------------------

    def _begin(
        self,
        names: Mapping[str, str],
        what: str,
        check: Callable[[Deployment], Awaitable[Found]],
        *,
        deadline: float = DEADLINE,
    ) -> _Look:
        """Begin a check, unless none of its lines is wanted."""
        if not any(self._wants(id) for id in names):
            return _done(names, [])
        return _Look(names, asyncio.create_task(_guarded(what, check(self._deployment), deadline)))

    def _wants(self, id: str) -> bool:
        """Whether a line was asked for: all are, or this one, or those that begin so, or one of what it stands for."""
        return not self._only or any(_begins(id, each) or _begins(each, id) for each in self._only)

    def _skipped(self, lines: Mapping[str, str], reason: str) -> list[Finding]:
        return [finding for finding in _skip(lines, reason) if self._wants(finding.id)]

    def _blind(self, error: Exception) -> list[Finding]:
        found = f"the ledger cannot be looked at: {_reason(error)}"
        fix = "holdfast migrate status tells what is missing, holdfast migrate up brings it"
        first = Finding("workers.live", "workers", Verdict.FAIL, found, fix=fix)
        rest = _skip(self._of_the_report(), "needs a look at the ledger")
        return [first, *(finding for finding in rest if finding.id != first.id)]

    def _of_the_database(self) -> dict[str, str]:
        return {**_OF_THE_SERVER, **_OF_THE_SCHEMA}

    def _of_workers(self) -> dict[str, str]:
        monitors = workers.names(has_queues=bool(self._deployment.queues)).values()
        return {"workers.live": "workers", **{workers.id_of(name): name for name in monitors}}

    def _of_the_report(self) -> dict[str, str]:
        """The lines that a look at the ledger tells of."""
        e2e = end_to_end.NAMES if self._deployment.e2e else {}
        return {
            **self._of_workers(),
            **timing.NAMES,
            "jobs.end_to_end": "jobs",
            "settings.in_force": "settings",
            **e2e,
        }

    def _of_the_ways(self) -> dict[str, str]:
        """The lines of a Supabase project's ways; those of another database are there where they are asked for."""
        target = self._deployment.target
        if target is None or not (target.is_supabase or self._asks_for_ways):
            return {}
        return routes.lines(target, self._deployment.https)

    @property
    def _asks_for_ways(self) -> bool:
        return any(_begins(each, routes.COMPONENT) for each in self._only)

    async def _canary_key(self) -> str | None:
        """A key for a few minutes that may only look, and that is counted apart."""
        chance = random.SystemRandom()
        made = make_key(chance.randbytes(5), chance.randbytes(32))
        call = create_api_key(made.id, "holdfast doctor", Role.CANARY, made.secret_hash, KEY_VALID_FOR)
        try:
            return made.token if await self._deployment.ledger.call(call) else None
        except DatabaseError:
            return None


def _begins(id: str, beginning: str) -> bool:
    return f"{id}.".startswith(f"{beginning}.")


def _objects() -> dict[str, str]:
    ours = ("rate_limit_requests", "find_stale_jobs", "stale_jobs_view")
    return {f"schema.{name}": _OF_THE_SCHEMA[f"schema.{name}"] for name in ours}


def _done(names: Mapping[str, str], found: Sequence[Finding]) -> _Look:
    task: asyncio.Task[list[Finding]] = asyncio.create_task(_at_once(list(found)))
    return _Look(names, task)


async def _at_once(found: list[Finding]) -> list[Finding]:
    return found


async def _guarded(what: str, check: Awaitable[Found], deadline: float = DEADLINE) -> list[Finding]:
    """The findings of a check; one that breaks or hangs is a finding too."""
    try:
        async with asyncio.timeout(deadline):
            found = await check
    except TimeoutError:
        return [Finding(f"{what}.ended", what, Verdict.FAIL, f"did not end within {deadline:g} s")]
    except NeedsConnection as error:
        return [Finding(f"{what}.ended", what, Verdict.SKIP, _reason(error))]
    except Exception as error:
        return [Finding(f"{what}.ended", what, Verdict.FAIL, f"could not be looked at: {_reason(error)}")]
    return found if isinstance(found, list) else [found]


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _skip(lines: Mapping[str, str], reason: str) -> list[Finding]:
    return [Finding(id, component, Verdict.SKIP, reason) for id, component in lines.items()]
