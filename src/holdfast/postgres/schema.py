"""Whether the schema that a database has is the one that this version's files make: object by object.

What they make stands in `catalog.json`, written by `scripts/write_catalog.py` from a database that was just migrated:
for each object also the last file that made or changed it, so that what is missing can be told with the way out.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from holdfast.postgres.calls import Call
from holdfast.postgres.throwaway import CLOCK

#: The same text for every way to the database.
CATALOG = "SELECT kind, name, definition FROM holdfast.schema_catalog()"
_EXPOSED = "public.holdfast_"
ROLES = ("holdfast_app", "service_role", "anon", "authenticated")

_COLUMN = re.compile(
    r"(?P<type>.+?)(?P<full> NOT NULL)?(?: COLLATE (?P<collation>\S+))?"
    r"(?P<made> IDENTITY| GENERATED .+)?(?: DEFAULT (?P<default>.+))?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """One object. `kind`: table, column, constraint, index, view, function, policy, grant, role."""

    kind: str
    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class Difference:
    """`what`: missing, differs, or extra (nobody here made it; `file` is None then).

    `file` is the number of the file that makes it.
    """

    what: str
    kind: str
    name: str
    wanted: str
    found: str
    file: int | None


def schema_catalog() -> Call[SchemaObject]:
    """What the database has."""
    return Call("schema_catalog", CATALOG, (), SchemaObject)


@cache
def expected() -> Mapping[tuple[str, str], tuple[str, int]]:
    """What the files make: definition and file by (kind, name)."""
    text = (files("holdfast.postgres") / "catalog.json").read_text(encoding="utf-8")
    return {(kind, name): (definition, file) for kind, name, definition, file in json.loads(text)}


def differences(found: Iterable[SchemaObject], applied: Iterable[int]) -> list[Difference]:
    """Pure: what is there against what the applied files make.

    Roles that a server lacks are missed by nobody; nor are the functions in public, where the files may make none.
    """
    wanted, done = expected(), set(applied)
    there = {(each.kind, each.name): each.definition for each in found}
    absent = {role for role in ROLES if ("role", role) not in there}
    is_exposed = any(name.startswith(_EXPOSED) for _, name in there)
    told = []
    for (kind, name), (definition, file) in wanted.items():
        if file not in done or _is_of(absent, kind, name, definition) or (_EXPOSED in name and not is_exposed):
            continue
        has = there.get((kind, name))
        if has is None:
            told.append(Difference("missing", kind, name, definition, "", file))
        elif has != definition and has.rpartition(", ")[2] not in _of_test_clocks():
            told.append(Difference("differs", kind, name, definition, has, file))
    told += [
        Difference("extra", kind, name, "", definition, None)
        for (kind, name), definition in there.items()
        if (kind, name) not in wanted and kind != "role"
    ]
    return sorted(told, key=lambda each: (each.file or 0, each.kind, each.name))


def way_back(told: Iterable[Difference]) -> list[str]:
    """The SQL that leads back, with the files that are run again after it.

    A file leaves a table or an index alone that is there, whatever is wrong with it: statements of its own mend that.
    """
    wrong = [each for each in told if each.file is not None]
    lost = {each.name for each in wrong if each.kind == "table" and each.what == "missing"}
    steps, again = list[str](), set[int]()
    for each in wrong:
        table, _, part = each.name.rpartition(".")
        step = _step(each, table, part) if table not in lost else None
        if step is not None:
            steps.append(step)
        if step is None or each.kind == "index":
            again.add(each.file or 0)
    if again:
        listed = ", ".join(map(str, sorted(again)))
        steps.append(f"DELETE FROM holdfast.schema_migrations WHERE version IN ({listed})")  # noqa: S608
    return steps


def _step(each: Difference, table: str, part: str) -> str | None:
    """None where running the file again is enough."""
    is_there = each.what == "differs"
    if each.kind == "index" and is_there:
        return f"DROP INDEX {each.name}"
    if ("table", table) not in expected():
        return None
    if each.kind == "constraint":
        gone = f"DROP CONSTRAINT {part}, " if is_there else ""
        return f"ALTER TABLE {table} {gone}ADD CONSTRAINT {part} {each.wanted}"
    if each.kind == "column":
        return _column_step(table, part, each.wanted, each.found if is_there else None)
    return None


def _column_step(table: str, name: str, wanted: str, found: str | None) -> str | None:
    new = _parts(wanted)
    if new["made"] is not None:
        return None
    kind = f'{new["type"]} COLLATE "{new["collation"]}"' if new["collation"] else new["type"]
    default = f" DEFAULT {new['default']}" if new["default"] else ""
    if found is None:
        return f"ALTER TABLE {table} ADD COLUMN {name} {kind}{' NOT NULL' if new['full'] else ''}{default}"
    old = _parts(found)
    changes = []
    if (old["type"], old["collation"]) != (new["type"], new["collation"]):
        changes.append(f"TYPE {kind}")
    if old["full"] != new["full"]:
        changes.append("SET NOT NULL" if new["full"] else "DROP NOT NULL")
    if old["default"] != new["default"]:
        changes.append(f"SET{default}" if default else "DROP DEFAULT")
    return f"ALTER TABLE {table} " + ", ".join(f"ALTER COLUMN {name} {change}" for change in changes)


def _parts(definition: str) -> dict[str, str | None]:
    """What a column's definition consists of, as the catalog writes it; `made`: how Postgres itself fills it."""
    found = _COLUMN.fullmatch(definition)
    return found.groupdict() if found else {"made": definition}


@cache
def _of_test_clocks() -> frozenset[str]:
    """The clock that `holdfast.testing` puts in place of ours is no difference: whoever has it asked for it."""
    bodies = re.findall(r"AS (?:'(.*?)'|\$\$(.*?)\$\$);", CLOCK, re.DOTALL)
    return frozenset(hashlib.md5("".join(body).encode(), usedforsecurity=False).hexdigest() for body in bodies)


def _is_of(absent: set[str], kind: str, name: str, definition: str) -> bool:
    """Whether it is about a role that this server does not have."""
    if kind == "role":
        return True
    if kind == "grant":
        return name.partition(" on ")[0] in absent
    return kind == "policy" and any(role in definition for role in absent)
