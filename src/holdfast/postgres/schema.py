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
CATALOG = "SELECT holdfast.describe_schema()"
_EXPOSED = "public.holdfast_"
ROLES = ("holdfast_app", "service_role", "anon", "authenticated")
#: What these may do with anything of ours is told, though no file has made it.
STRANGERS = ("PUBLIC", "anon", "authenticated")
#: The names that are given where they were free.
_OFFERED = re.compile(r"(.* on )?public\.(find_stale_jobs\(.*|stale_jobs_view(\..*)?)")


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """One object. `kind`: table, column, constraint, index, view, function, policy, grant, role."""

    kind: str
    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class Difference:
    """`what`: missing, differs, or extra (nobody here made it).

    `file` is the number of the file that makes it; None where it is another's, and no business of ours. A grant to
    strangers is: it is extra, and has the file that takes it back.
    """

    what: str
    kind: str
    name: str
    wanted: str
    found: str
    file: int | None


def describe_schema() -> Call[list[SchemaObject]]:
    """What the database has."""
    return Call("describe_schema", CATALOG, (), objects_of)


def objects_of(described: Iterable[Iterable[str]]) -> list[SchemaObject]:
    """The objects in what `holdfast.describe_schema()` answers."""
    return [SchemaObject(*each) for each in described]


@cache
def expected() -> Mapping[tuple[str, str], tuple[str, int]]:
    """What the files make: definition and file by (kind, name)."""
    text = (files("holdfast.postgres") / "catalog.json").read_text(encoding="utf-8")
    return {(kind, name): (definition, file) for kind, name, definition, file in json.loads(text)}


def differences(found: Iterable[SchemaObject], applied: Iterable[int]) -> list[Difference]:
    """Pure: what is there against what the applied files make.

    Roles that a server lacks are missed by nobody; nor is what the files make in public, where they may make nothing or
    the name was taken.
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
        if has is None and _OFFERED.fullmatch(name):
            continue
        if has is None:
            told.append(Difference("missing", kind, name, definition, "", file))
        elif has != definition and has.rpartition(", ")[2] not in _of_test_clocks():
            told.append(Difference("differs", kind, name, definition, has, file))
    told += [
        Difference("extra", kind, name, "", definition, _file_against(kind, name))
        for (kind, name), definition in there.items()
        if (kind, name) not in wanted and kind != "role"
    ]
    return sorted(told, key=lambda each: (each.file or 0, each.kind, each.name))


def _file_against(kind: str, name: str) -> int | None:
    """The file that takes back what strangers were granted."""
    role, _, place = name.partition(" on ")
    if kind != "grant" or role not in STRANGERS or place not in _places():
        return None
    return expected()["function", "holdfast.secure_schema()"][1]


@cache
def _places() -> frozenset[str]:
    """What rights can be granted on."""
    return frozenset(name.partition(" on ")[2] for kind, name in expected() if kind == "grant")


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
