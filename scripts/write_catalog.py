#!/usr/bin/env python3
"""Write src/holdfast/postgres/catalog.json: what the migrations make, object by object. `--check` only compares.

A server of its own is started, with Supabase's roles, and each file is applied in turn.
"""

import json
import sys
import tempfile
from pathlib import Path

import psycopg

from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import load

PATH = Path(__file__).resolve().parent.parent / "src" / "holdfast" / "postgres" / "catalog.json"
LENT = PATH.parent / "functions" / "schema_catalog.sql"
CATALOG = "SELECT kind, name, definition FROM holdfast.schema_catalog()"
#: The file that makes that function.
FIRST = 10
ROLES = "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role BYPASSRLS"


def catalog(dsn: str) -> dict[tuple[str, str], tuple[str, int]]:
    """Each object with its definition, and the last file that made or changed it."""
    known: dict[tuple[str, str], tuple[str, int]] = {}
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(ROLES)
        for migration in load():
            conn.execute(migration.text.encode())
            found = read(conn, is_there=migration.version >= FIRST)
            for gone in set(known) - set(found):
                del known[gone]
            for place, definition in found.items():
                if place not in known or known[place][0] != definition:
                    known[place] = (definition, migration.version)
    return known


def read(conn: psycopg.Connection, *, is_there: bool) -> dict[tuple[str, str], str]:
    """What there is now; before the file that brings the function which tells it, it is lent."""
    if not is_there:
        conn.execute(LENT.read_text().encode())
    found = {(kind, name): definition for kind, name, definition in conn.execute(CATALOG)}
    if is_there:
        return found
    conn.execute("DROP FUNCTION holdfast.schema_catalog()")
    return {(kind, name): text for (kind, name), text in found.items() if "schema_catalog()" not in name}


def render() -> str:
    base = Path(tempfile.mkdtemp(prefix="holdfast-schema-", dir="/tmp"))
    base.chmod(0o755)
    with EmbeddedPostgres(base / "data", settings={"fsync": "off"}) as server:
        known = catalog(server.dsn)
    lines = [json.dumps([kind, name, definition, file]) for (kind, name), (definition, file) in sorted(known.items())]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main() -> int:
    wanted = render()
    is_current = PATH.exists() and PATH.read_text() == wanted
    if "--check" not in sys.argv:
        PATH.write_text(wanted)
        return 0
    print("up to date" if is_current else "catalog.json is not what the migrations make: run scripts/write_catalog.py")
    return 0 if is_current else 1


if __name__ == "__main__":
    raise SystemExit(main())
