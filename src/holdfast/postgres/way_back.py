"""The SQL that leads a schema back to what the migrations make, for each object that is missing or was changed.

Most of what a file makes, it makes again when its record is deleted and it is run once more. A table, an index or a
policy that is there it leaves alone, whatever is wrong with it: statements of their own mend those.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from holdfast.postgres.migrate import load
from holdfast.postgres.schema import Difference, expected

_COLUMN = re.compile(
    r"(?P<type>.+?)(?P<full> NOT NULL)?(?: COLLATE (?P<collation>\S+))?"
    r"(?: IDENTITY (?P<identity>ALWAYS|BY DEFAULT)|(?: GENERATED| VIRTUAL) (?P<made>.+?))?"
    r"(?: DEFAULT (?P<default>.+))?",
    re.DOTALL,
)
_SECURED = "row level security"
_MADE_ANEW = re.compile(r"^CREATE (?:OR REPLACE )?(?:FUNCTION|VIEW) (holdfast\.\w+)", re.MULTILINE)


@dataclass(frozen=True)
class _Mend:
    """Statements, and the files that are run again after them."""

    steps: tuple[str, ...] = ()
    files: frozenset[int] = frozenset()


def way_back(told: Iterable[Difference]) -> list[str]:
    """The statements that lead back. Where the last deletes records, `holdfast migrate up` is what comes after."""
    wrong = [each for each in told if each.file is not None]
    lost = {each.name for each in wrong if each.kind == "table" and each.what == "missing"}
    mends = [_again(each) if _table_of(each) in lost else _MENDS.get(each.kind, _again)(each) for each in wrong]
    steps = list(dict.fromkeys(step for mend in mends for step in mend.steps))
    files = with_successors({file for mend in mends for file in mend.files}, _functions_of_files())
    return [*steps, _forget(files)] if files else steps


def with_successors(files: set[int], made: Mapping[int, frozenset[str]]) -> set[int]:
    """The files, and the later ones that make a function or view of theirs anew: an older body must not be the last.

    >>> sorted(with_successors({3}, {3: frozenset({"claim", "beat"}), 4: frozenset(), 20: frozenset({"beat"})}))
    [3, 20]
    """
    wanted = set(files)
    for file in sorted(made):
        earlier = set().union(*(made[each] for each in wanted if each < file and each in made))
        wanted |= {file} if made[file] & earlier else set()
    return wanted


@cache
def _functions_of_files() -> Mapping[int, frozenset[str]]:
    return {migration.version: frozenset(_MADE_ANEW.findall(migration.text)) for migration in load()}


def way_to_look() -> str:
    """What brings back the functions that tell what there is."""
    files = {expected()["function", f"holdfast.{name}()"][1] for name in ("schema_catalog", "describe_schema")}
    return _forget(with_successors(files, _functions_of_files()))


def _forget(files: Iterable[int]) -> str:
    return f"DELETE FROM holdfast.schema_migrations WHERE version IN ({', '.join(map(str, sorted(files)))})"  # noqa: S608


def _table_of(each: Difference) -> str:
    """The table that it is a part of, or the thing that a grant is about."""
    return each.name.partition(" on ")[2] if each.kind == "grant" else each.name.rpartition(".")[0]


def _again(each: Difference, *steps: str) -> _Mend:
    return _Mend(steps, frozenset({each.file or 0}))


def _table(each: Difference) -> _Mend:
    if each.what == "missing":
        return _again(each)
    wanted, found = (set(text.split(", ")) - {""} for text in (each.wanted, each.found))
    options, others = ({option.partition("=")[0] for option in found - {_SECURED}}, wanted - found - {_SECURED})
    kept = {option.partition("=")[0] for option in wanted}
    steps = [f"ALTER TABLE {each.name} RESET ({name})" for name in sorted(options - kept)]
    steps += [f"ALTER TABLE {each.name} SET ({option})" for option in sorted(others)]
    return _again(each, *steps) if _SECURED in wanted - found else _Mend(tuple(steps))


def _constraint(each: Difference) -> _Mend:
    table, _, name = each.name.rpartition(".")
    gone = f"DROP CONSTRAINT {name}, " if each.what == "differs" else ""
    return _Mend((f"ALTER TABLE {table} {gone}ADD CONSTRAINT {name} {each.wanted}",))


def _index(each: Difference) -> _Mend:
    name = each.name.rpartition(".")[2]
    if each.found == f"{each.wanted} INVALID":
        return _Mend((f"REINDEX INDEX CONCURRENTLY {each.name}",))
    if any(kind == "constraint" and whole.endswith(f".{name}") for kind, whole in expected()):
        return _Mend()  # it comes and goes with its constraint
    return _again(each, f"DROP INDEX {each.name}") if each.what == "differs" else _again(each)


def _view(each: Difference) -> _Mend:
    """Made anew, it has lost its grants."""
    return _Mend(files=frozenset({each.file or 0, expected()["function", "holdfast.secure_schema()"][1]}))


def _policy(each: Difference) -> _Mend:
    table, _, name = each.name.rpartition(".")
    return _again(each, f"DROP POLICY {name} ON {table}") if each.what == "differs" else _again(each)


def _grant(each: Difference) -> _Mend:
    """Files give what is missing, and take nothing away."""
    role, _, place = each.name.partition(" on ")
    wanted, found = (set(text.split(", ")) - {""} for text in (each.wanted, each.found))
    kind = "FUNCTION " if "(" in place else ""
    taken = ", ".join(sorted(found - wanted))
    steps = (f"REVOKE {taken} ON {kind}{place} FROM {role}",) if taken else ()
    return _again(each, *steps) if wanted - found else _Mend(steps)


def _column(each: Difference) -> _Mend:
    table, _, name = each.name.rpartition(".")
    if ("table", table) not in expected():
        return _again(each)  # of a view
    if each.what == "missing":
        return _Mend((_added(table, name, each.wanted),))
    new, old = _parts(each.wanted), _parts(each.found)
    if new["made"] != old["made"] and new["made"] is not None:
        # What Postgres computes is lost by nothing; the indexes on it go, and come again.
        anew = (f"ALTER TABLE {table} DROP COLUMN {name} CASCADE", _added(table, name, each.wanted))
        return _Mend(anew, frozenset({each.file or 0, *_files_of_indexes(table, name)}))
    changes = ", ".join(f"ALTER COLUMN {name} {change}" for change in _changes(new, old))
    steps = (f"ALTER TABLE {table} {changes}",) if changes else ()
    return _Mend((*steps, *_identity(table, name, new["identity"], old["identity"])))


def _added(table: str, name: str, definition: str) -> str:
    new = _parts(definition)
    parts = [_type(new)]
    if new["made"]:
        expression = re.sub(r"\s*\n\s*", " ", new["made"])
        parts.append(f"GENERATED ALWAYS AS ({expression}) STORED")
    if new["identity"]:
        parts.append(f"GENERATED {new['identity']} AS IDENTITY")
    parts += ["NOT NULL"] if new["full"] else []
    parts += [f"DEFAULT {new['default']}"] if new["default"] else []
    return f"ALTER TABLE {table} ADD COLUMN {name} {' '.join(parts)}"


def _changes(new: dict[str, str | None], old: dict[str, str | None]) -> list[str]:
    changes = []
    if old["made"] is not None and new["made"] is None:
        changes.append("DROP EXPRESSION")
    if _type(new) != _type(old):
        changes.append(f"TYPE {_type(new)}")
    if old["full"] != new["full"]:
        changes.append("SET NOT NULL" if new["full"] else "DROP NOT NULL")
    if old["default"] != new["default"]:
        changes.append(f"SET DEFAULT {new['default']}" if new["default"] else "DROP DEFAULT")
    return changes


def _identity(table: str, name: str, new: str | None, old: str | None) -> tuple[str, ...]:
    if new == old:
        return ()
    if new is None:
        return (f"ALTER TABLE {table} ALTER COLUMN {name} DROP IDENTITY",)
    if old is not None:
        return (f"ALTER TABLE {table} ALTER COLUMN {name} SET GENERATED {new}",)
    # It would begin at 1, whatever numbers are taken.
    going_on = f"(SELECT coalesce(max({name}), 0) + 1 FROM {table})"  # noqa: S608
    return (
        f"ALTER TABLE {table} ALTER COLUMN {name} ADD GENERATED {new} AS IDENTITY",
        f"SELECT setval(pg_get_serial_sequence('{table}', '{name}'), {going_on}, false)",
    )


def _files_of_indexes(table: str, column: str) -> set[int]:
    mentions = re.compile(rf" ON {re.escape(table)} .*\b{column}\b", re.DOTALL)
    return {file for (kind, _), (text, file) in expected().items() if kind == "index" and mentions.search(text)}


def _type(parts: dict[str, str | None]) -> str:
    return f'{parts["type"]} COLLATE "{parts["collation"]}"' if parts["collation"] else parts["type"] or ""


def _parts(definition: str) -> dict[str, str | None]:
    """What a column's definition consists of, as the catalog writes it; `made`: the expression that makes it."""
    found = _COLUMN.fullmatch(definition)
    assert found is not None, definition
    return found.groupdict()


_MENDS: dict[str, Callable[[Difference], _Mend]] = {
    "table": _table,
    "column": _column,
    "constraint": _constraint,
    "index": _index,
    "view": _view,
    "policy": _policy,
    "grant": _grant,
}
