"""Statements that are no function of the protocol: one .sql file each, loaded once."""

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> str:
    """The text of sql/<name>.sql."""
    return (files("holdfast.postgres") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
