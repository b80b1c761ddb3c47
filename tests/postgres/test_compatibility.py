"""A newer schema serves the code of the level before: while a deployment replaces programs, both run on it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.postgres.migrate import load, migrate_up
from holdfast.postgres.schema import CATALOG
from tests.support import database_copy

#: Name and arguments of each function, and what it returns, as callers of an earlier level know them.
KEPT: dict[str, str] = json.loads((Path(__file__).parent / "signatures.json").read_text())


@pytest.fixture
def migrated(bare: str) -> Iterator[str]:
    with database_copy(bare, "template0") as dsn:
        migrate_up(dsn)
        yield dsn


def signatures(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn) as conn:
        (described,) = conn.execute(CATALOG).fetchone() or ()
        found = [(kind, name, text) for kind, name, text in described if kind == "function"]
    return {name: re.split(r", (?:volatile|stable|immutable)\b", text)[0] for _, name, text in found}


def test_a_function_that_was_there_is_there_with_its_arguments_and_its_columns(migrated: str) -> None:
    """One that takes more, or returns something else, gets a name of its own (_v2), and the old one stays."""
    now = signatures(migrated)
    changed = {name: now.get(name) for name, returned in KEPT.items() if now.get(name) != returned}
    assert changed == {}, "a change that is meant, before 0.1, is written down in signatures.json"


def test_what_files_add_after_the_first_levels_takes_nothing_from_the_tables(bare: str) -> None:
    """The files from 009 on, on a database that the level before runs on: no column, constraint or index goes."""
    with database_copy(bare, "template0") as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        for migration in load()[:8]:
            conn.execute(migration.text.encode())
        before = columns(conn)
        for migration in load()[8:]:
            conn.execute(migration.text.encode())
        assert before <= columns(conn)


def columns(conn: psycopg.Connection) -> set[tuple[str, ...]]:
    return set(
        conn.execute(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text"
            " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE c.relnamespace = 'holdfast'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped"
        )
    )
