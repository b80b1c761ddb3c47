"""Is the schema really what the migrations made: every table, column, constraint, index, function, view, policy, grant?

What is on record says what was run once; this looks at what is there now, as `holdfast migrate verify` does. Objects of
others are none of our business.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from holdfast.core.findings import Finding, Verdict
from holdfast.errors import SchemaMismatch
from holdfast.postgres.migrate import load, migrate_status
from holdfast.postgres.schema import Difference, describe_schema, differences, expected
from holdfast.postgres.way_back import way_back, way_to_look
from holdfast.services.checks.deployment import Deployment

NAMES: Mapping[str, str] = {"schema.drift": "schema"}
_ID, _COMPONENT = "schema.drift", "schema"
_CODE = "tables, columns, constraints, indexes, functions, views, policies, grants"
AGAIN = "holdfast migrate up"


async def check_drift(deployment: Deployment) -> Finding:
    """Compare what is there with what the migrations on record make."""
    statuses = await asyncio.to_thread(migrate_status, deployment.dsn)
    applied = {status.version for status in statuses if status.state != "pending"}
    try:
        found = await deployment.ledger.one(describe_schema())
    except SchemaMismatch as error:
        return _unseen(error, applied)
    return judge(differences(found, applied), applied)


def judge(told: Sequence[Difference], applied: Collection[int]) -> Finding:
    """What is missing or different, and the way out."""
    wrong = [each for each in told if each.file is not None]
    extra = len(told) - len(wrong)
    if not wrong:
        made = sum(file in applied for _, file in expected().values())
        rest = f"; {extra} of others beside them" if extra else ""
        return Finding(_ID, _COMPONENT, Verdict.PASS, f"{made} objects are as the migrations made them{rest}", _CODE)
    news = _without_parts(wrong)
    more = f"; and {len(news) - 3} more" if len(news) > 3 else ""
    steps = _steps(way_back(wrong))
    said = "; ".join(map(_said, news[:3])) + more
    return Finding(_ID, _COMPONENT, Verdict.FAIL, said, _CODE, "; then ".join(_shown(steps)), repair=steps)


def _unseen(error: SchemaMismatch, applied: Collection[int]) -> Finding:
    """The functions that tell what there is are missing: not applied yet, or lost."""
    reason = str(error).partition("\n")[0]
    if load()[-1].version not in applied:
        return Finding(_ID, _COMPONENT, Verdict.FAIL, reason, _CODE, AGAIN)
    steps = (way_to_look(), AGAIN)
    return Finding(_ID, _COMPONENT, Verdict.FAIL, reason, _CODE, "; then ".join(_shown(steps)), repair=steps)


def _without_parts(wrong: Sequence[Difference]) -> list[Difference]:
    """A column of a table that is missing itself, or a grant on it, is no news."""
    lost = [each.name for each in wrong if each.what == "missing" and each.kind in ("table", "view", "function")]
    return [
        each
        for each in wrong
        if not any(
            each.name.startswith(f"{name}.") or each.name.endswith(f" on {name}") or f" ON {name} " in each.wanted
            for name in lost
        )
    ]


def _said(each: Difference) -> str:
    what = f"{each.kind} {each.name.replace('holdfast.', '', 1)}"
    if each.what == "missing":
        return f"{what} is missing"
    if each.what == "extra":
        return f"{what}: {each.found} for strangers"
    if each.kind in ("function", "view"):
        return f"{what} has another body"
    return f"{what} is {each.found[:80]!r}, expected {each.wanted[:80]!r}"


def _steps(sql: Sequence[str]) -> tuple[str, ...]:
    return (*sql, AGAIN) if any("holdfast.schema_migrations" in step for step in sql) else tuple(sql)


def _shown(steps: Sequence[str]) -> list[str]:
    shown = [f"run the SQL {step}" if step != AGAIN else step for step in steps[:4]]
    return shown if len(steps) <= 4 else [*shown, f"{len(steps) - 4} more (--json lists them, --fix does them)"]
