"""Statements that are no function of the protocol: one .sql file each, loaded once."""

from functools import cache


@cache
def statement(name: str) -> str:
    """The text of sql/<name>.sql."""
    from importlib.resources import (
        files,
    )  # here, since it brings a dozen modules that `import holdfast` need not wait for

    return (files("holdfast.postgres") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
