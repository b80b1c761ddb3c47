#!/usr/bin/env python3
"""Write what a migrated database holds into src/holdfast/postgres/schema.json, which `holdfast doctor` compares with.

python scripts/describe_schema.py           write it, from a local Postgres of its own
python scripts/describe_schema.py --check   fail if it is not what the migrations make
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.examine import describe_schema
from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.migrate import migrate_up

FILE = Path(__file__).resolve().parent.parent / "src" / "holdfast" / "postgres" / "schema.json"


def describe(dsn: str) -> str:
    ledger = SyncLedger(dsn, name="describe schema")
    try:
        found = {f"{each.what} {each.name}": each.definition for each in ledger.call(describe_schema())}
    finally:
        ledger.close()
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def main() -> int:
    base = Path(tempfile.mkdtemp(prefix="holdfast-schema-", dir="/tmp"))
    base.chmod(0o755)
    try:
        with EmbeddedPostgres(base / "data", settings={"fsync": "off"}) as server:
            migrate_up(server.dsn)
            wanted = describe(server.dsn)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if FILE.exists() and FILE.read_text() == wanted:
        return 0
    if "--check" in sys.argv:
        print("schema.json is not what the migrations make; run: python scripts/describe_schema.py", file=sys.stderr)
        return 1
    FILE.write_text(wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
