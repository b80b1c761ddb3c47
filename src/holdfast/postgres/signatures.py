"""Signatures of the ledger's SQL functions, read from the files that define them: what a caller over HTTPS must know.

A function of the protocol says it in `functions/`; a statement of `sql/` that is a function as well says it in the line
of its comment that begins with RPC. Nothing is written down twice.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_FUNCTION = re.compile(
    r"CREATE OR REPLACE FUNCTION holdfast\.(?P<name>\w+)\s*\((?P<arguments>.*?)\)\s*"
    r"RETURNS\s+(?P<returns>.*?)\s*LANGUAGE",
    re.DOTALL,
)
_RPC = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)\)\s*RETURNS\s+(?P<returns>.*)", re.DOTALL)
_TABLE = re.compile(r"TABLE\s*\((.*)\)", re.DOTALL)


@dataclass(frozen=True)
class Argument:
    """An argument of a function. `type` is Postgres's name."""

    name: str
    type: str
    has_default: bool


@dataclass(frozen=True)
class Signature:
    """A function: `columns` of its rows by name and type; with `is_scalar` each row is one value of the only type."""

    name: str
    arguments: tuple[Argument, ...]
    columns: tuple[tuple[str, str], ...]
    is_set: bool
    is_scalar: bool


@cache
def of_function(name: str) -> Signature | None:
    """A function of the protocol; None where there is no file of that name."""
    path = files("holdfast.postgres") / "functions" / f"{name}.sql"
    if not path.is_file():
        return None
    found = _FUNCTION.search(path.read_text(encoding="utf-8"))
    return None if found is None else _signature(found)


@cache
def of_statement(text: str) -> Signature | None:
    """A statement that is a function as well; None where its comment names none.

    >>> of_statement("-- Why.\\n-- RPC ping() RETURNS TABLE (clock timestamptz)\\nSELECT 1").columns
    (('clock', 'timestamptz'),)
    """
    comment: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if comment or line.startswith("-- RPC "):
            comment.append(line.removeprefix("-- ").removeprefix("RPC "))
    found = _RPC.fullmatch(" ".join(comment)) if comment else None
    return None if found is None else _signature(found)


def _signature(found: re.Match[str]) -> Signature:
    arguments = tuple(_argument(each) for each in _split(found["arguments"]))
    returns = " ".join(found["returns"].split())
    table = _TABLE.fullmatch(returns)
    if table is not None:
        return Signature(
            found["name"], arguments, tuple(_name_and_type(each) for each in _split(table[1])), True, False
        )
    is_set = returns.startswith("SETOF ")
    return Signature(found["name"], arguments, (("", returns.removeprefix("SETOF ")),), is_set, is_scalar=True)


def _argument(text: str) -> Argument:
    declared, has_default, _ = text.partition(" DEFAULT ")
    name, type = _name_and_type(declared)
    return Argument(name, type, bool(has_default))


def _name_and_type(text: str) -> tuple[str, str]:
    name, _, type = text.strip().partition(" ")
    return name.strip('"'), type.strip()


def _split(text: str) -> list[str]:
    """Cut at the commas that stand outside of brackets and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for position, letter in enumerate(text):
        if letter == "'":
            quoted = not quoted
        elif not quoted and letter in "([{":
            depth += 1
        elif not quoted and letter in ")]}":
            depth -= 1
        elif not quoted and depth == 0 and letter == ",":
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [" ".join(part.split()) for part in parts if part.strip()]
