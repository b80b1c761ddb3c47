"""Is the schema really what the migrations made: every table, column, constraint, index, function and view?

What is on record says what was run once; this looks at what is there now. Objects of others are none of our business.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.examine import describe_schema, expected_schema, server_facts
from holdfast.postgres.migrate import Migration, load
from holdfast.services.checks.deployment import Deployment

NAMES: Mapping[str, str] = {"schema.drift": "schema"}
_ID, _COMPONENT = "schema.drift", "schema"
#: Functions that a sandbox for tests replaces, to move time.
_MOVED = ("function clock()", "function postgres_started_at()")
AGAIN = "holdfast migrate up"
#: A table that was made again has its row level security and its grants from here.
SECURE = "SELECT holdfast.secure_schema()"


async def check_drift(deployment: Deployment) -> Finding:
    """Compare what is there with what this version's migrations make."""
    facts = await deployment.ledger.one(server_facts())
    there = {f"{each.what} {each.name}": each.definition for each in await deployment.ledger.call(describe_schema())}
    expected = dict(expected_schema())
    if facts.is_sandbox:
        there, expected = _without(there, _MOVED), _without(expected, _MOVED)
    return judge(expected, there)


def judge(expected: Mapping[str, str], there: Mapping[str, str]) -> Finding:
    """What is missing or different, and the way out."""
    wrong = [name for name, text in expected.items() if there.get(name) != text]
    # A column or constraint of a table that is missing itself is no news.
    wrong = [name for name in wrong if "." not in name or f"table {_table_of(name)}" not in wrong]
    extra = len(set(there) - set(expected))
    code = f"{len(expected)} objects: tables, columns, constraints, indexes, functions, views"
    if not wrong:
        rest = f"; {extra} of others beside them" if extra else ""
        return Finding(
            _ID, _COMPONENT, Verdict.PASS, f"{len(expected)} objects are as the migrations made them{rest}", code
        )
    found = "; ".join(_difference(name, expected[name], there.get(name)) for name in wrong[:3])
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    steps = _repair(wrong, expected, there)
    return Finding(_ID, _COMPONENT, Verdict.FAIL, found + more, code, "; then ".join(_shown(steps)), repair=steps)


def _without(objects: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: text for name, text in objects.items() if name not in names}


def _table_of(name: str) -> str:
    return name.partition(" ")[2].partition(".")[0]


def _difference(name: str, expected: str, there: str | None) -> str:
    if there is None:
        return f"{name} is missing"
    if name.startswith("function"):
        return f"{name} has another body"
    return f"{name} is {there[:80]!r}, expected {expected[:80]!r}"


def _repair(wrong: Sequence[str], expected: Mapping[str, str], there: Mapping[str, str]) -> tuple[str, ...]:
    """Columns are added as they are defined, invalid indexes built anew; all else is what its migration makes again."""
    steps, versions = list[str](), set[int]()
    files = load()
    for each in wrong:
        what, _, name = each.partition(" ")
        table, _, column = name.partition(".")
        if what == "column" and each not in there and not expected[each].startswith(("uuid NOT NULL", "text NOT NULL")):
            steps.append(f"ALTER TABLE holdfast.{table} ADD COLUMN {column} {expected[each]}")
        elif what == "index" and there.get(each, "").endswith("INVALID"):
            steps.append(f"REINDEX INDEX CONCURRENTLY holdfast.{name}")
        else:
            versions |= _makers(files, what, name)
    if versions:
        listed = ", ".join(map(str, sorted(versions)))
        steps.append(f"DELETE FROM holdfast.schema_migrations WHERE version IN ({listed})")  # noqa: S608
        steps.append(AGAIN)
    if any(each.startswith("table ") for each in wrong):
        steps.append(SECURE)
    return tuple(steps)


def _makers(files: Sequence[Migration], what: str, name: str) -> set[int]:
    """The newest migration that makes this object."""
    bare = re.escape(name.partition("(")[0].partition(".")[0])
    kind = {"function": "FUNCTION", "index": r"INDEX(?: CONCURRENTLY)?", "table": "(?:TABLE|VIEW)"}.get(what, "TABLE")
    pattern = re.compile(rf"{kind}(?: IF NOT EXISTS)? (?:\w+\.)?{bare}\b")
    found = [file.version for file in files if pattern.search(file.text)]
    return set(found[-1:])


def _shown(steps: Sequence[str]) -> list[str]:
    shown = [f"run the SQL {step}" if step != AGAIN else step for step in steps[:4]]
    return shown if len(steps) <= 4 else [*shown, f"{len(steps) - 4} more (--json lists them, --fix does them)"]
