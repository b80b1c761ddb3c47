"""Does the database answer, and is its schema the one of this version: on record, and really there?"""

import asyncio
import contextlib
import time
from collections.abc import Collection

from holdfast.core.findings import Finding, Verdict
from holdfast.errors import DatabaseError, DatabaseRefused, SchemaMismatch
from holdfast.postgres import reads
from holdfast.postgres.dsn import is_rest, is_supabase_direct
from holdfast.postgres.migrate import MigrationStatus, load, migrate_status
from holdfast.postgres.schema import expected
from holdfast.services.checks.deployment import Deployment

DATABASE = "database"
_OBJECTS = {
    "rate_limit_requests": ("table", "probe_rate_limit_requests", 4),
    "find_stale_jobs()": ("function", "probe_find_stale_jobs", 5),
    "stale_jobs_view": ("view", "probe_stale_jobs_view", 5),
}


async def check_database(deployment: Deployment) -> Finding:
    """Whether it answers."""
    began = time.monotonic()
    try:
        await _ask(deployment)
    except DatabaseRefused as error:
        what = (
            "SUPABASE_SERVICE_KEY to a secret key" if is_rest(deployment.dsn) else "DATABASE_URL to a role and database"
        )
        fix = f"set {what} that this server lets in"
        return Finding("database.answers", DATABASE, Verdict.FAIL, str(error), fix=fix)
    except DatabaseError as error:
        fix = "start the database, or set DATABASE_URL to the one that runs"
        if is_supabase_direct(deployment.dsn):
            fix = (
                "this host has IPv6 only, unless the project bought IPv4: take the session pooler's address (port 5432)"
            )
        return Finding("database.answers", DATABASE, Verdict.FAIL, str(error), fix=fix, unreachable=True)
    milliseconds = (time.monotonic() - began) * 1000
    found = f"{deployment.where} answers in {milliseconds:.0f} ms"
    return Finding("database.answers", DATABASE, Verdict.PASS, found, "Postgres 15 to 18")


async def _ask(deployment: Deployment) -> None:
    """Over a connection it needs no schema; over HTTPS an answer about one that is not there is an answer as well."""
    if not is_rest(deployment.dsn):
        await deployment.ledger.one(reads.now())
        return
    with contextlib.suppress(SchemaMismatch):
        await deployment.ledger.one(reads.ping())


async def check_migrations(deployment: Deployment) -> Finding:
    """Whether every migration of this version is on record as it is here, and none of a later one."""
    statuses = await asyncio.to_thread(migrate_status, deployment.dsn)
    newest = load()[-1]
    code = f"{len(load())} files, the newest {newest.name}"
    for state, fix in (
        ("edited", "use the Holdfast version that applied it, or a new database"),
        ("unknown", "upgrade this Holdfast: the database is newer"),
        ("pending", "holdfast migrate up"),
    ):
        names = [status.name for status in statuses if status.state == state]
        if names:
            return Finding("migrations.head", "migrations", Verdict.FAIL, f"{state}: {_some(names)}", code, fix)
    found = f"all applied, the last {_when(statuses)}"
    return Finding("migrations.head", "migrations", Verdict.PASS, found, code)


async def check_objects(deployment: Deployment) -> list[Finding]:
    """Whether what people look for by name is there and works, whatever is on record."""
    statuses = await asyncio.to_thread(migrate_status, deployment.dsn)
    pending = {status.version for status in statuses if status.state == "pending"}
    return [await _check_object(deployment, name, pending) for name in _OBJECTS]


async def _check_object(deployment: Deployment, name: str, pending: Collection[int]) -> Finding:
    what, probe, version = _OBJECTS[name]
    id = f"schema.{name.removesuffix('()')}"
    code = f"{what} holdfast.{name}"
    try:
        rows = await deployment.ledger.one(reads.probe_object(probe))
    except DatabaseError as error:
        # What is made anew has its grants from the file that secures the schema.
        _, securing = expected()["function", "holdfast.secure_schema()"]
        forget = f"DELETE FROM holdfast.schema_migrations WHERE version IN ({version}, {securing})"  # noqa: S608
        fix = "holdfast migrate up" if version in pending else f"run the SQL {forget}; then: holdfast migrate up"
        return Finding(id, name, Verdict.FAIL, f"{what} does not work: {error}", code, fix)
    return Finding(id, name, Verdict.PASS, f"{what} works, {rows} row{'s' * (rows != 1)} now", code)


def _when(statuses: list[MigrationStatus]) -> str:
    return max((status.applied_at or "" for status in statuses), default="")[:19]


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
