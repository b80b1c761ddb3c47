"""The migration files, as they ship: repeatable, up to date with the functions, safe beside each other, linted."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import holdfast
from holdfast.errors import MigrationError
from holdfast.postgres.migrate import (
    LOCK_PAUSES,
    Migration,
    apply_pending,
    load,
    migrate_status,
    migrate_up,
    read_status,
    sealed,
)
from holdfast.postgres.routes import Connected
from tests.support import database_copy, open_session, row, rows

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(next(iter(holdfast.__path__)))
STATEMENTS = sorted((PACKAGE / "postgres" / "sql").glob("*.sql"))

# Rules of the linter that do not apply to these files, each with its reason.
NOT_APPLICABLE = {
    "require-lock-timeout": "the block around the body sets it",
    "require-statement-timeout": "a migration may take its time; what others wait for is bounded by lock_timeout",
    "prefer-bigint-over-int": "the columns concerned count attempts, crashes, slots and file numbers",
    "prefer-bigint-over-smallint": "a priority lies between -1000 and 1000",
    "ban-drop-view": "a view is made anew in the same transaction, since a replacement cannot change its columns",
}


@pytest.fixture
def empty(bare: str) -> Iterator[str]:
    """A database without any schema of ours."""
    with database_copy(bare, "template0") as dsn:
        yield dsn


def fingerprint(dsn: str) -> list[object]:
    """Everything that the schema consists of, and the rows that migrations write."""
    queries = (
        "SELECT oid, proname, prosrc, proconfig, proacl::text FROM pg_proc"
        " WHERE pronamespace = 'holdfast'::regnamespace ORDER BY oid",
        "SELECT oid, relname, relkind, relfilenode, reloptions FROM pg_class"
        " WHERE relnamespace = 'holdfast'::regnamespace ORDER BY oid",
        "SELECT attrelid, attname, atttypid, attnotnull FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE relnamespace = 'holdfast'::regnamespace ORDER BY attrelid, attnum",
        "SELECT oid, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'holdfast'::regnamespace ORDER BY oid",
        "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'holdfast'",
        "SELECT * FROM holdfast.schema_migrations ORDER BY version",
        "SELECT * FROM holdfast.monitors ORDER BY name",
    )
    with psycopg.connect(dsn, autocommit=True) as conn:
        return [conn.execute(query).fetchall() for query in queries]


def run_all_files(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for migration in load():
            conn.execute(migration.text.encode())


def test_every_file_may_be_run_three_times_and_changes_nothing_after_the_first(empty: str) -> None:
    run_all_files(empty)
    first = fingerprint(empty)
    for _ in range(2):
        run_all_files(empty)
        assert fingerprint(empty) == first


def test_the_runner_and_files_run_by_hand_agree(empty: str) -> None:
    run_all_files(empty)
    assert migrate_up(empty) == []
    assert {status.state for status in migrate_status(empty)} == {"applied"}


def test_eight_migrators_at_once_apply_each_file_once(empty: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(migrate_up, empty) for _ in range(8)]:
            each.result()
    with open_session(empty) as conn:
        recorded = rows(conn, "SELECT version, checksum, xmin::text AS writer FROM holdfast.schema_migrations")
    assert [(each["version"], each["checksum"]) for each in sorted(recorded, key=lambda each: each["version"])] == [
        (migration.version, migration.checksum) for migration in load()
    ]
    assert len({each["writer"] for each in recorded}) == len(load())


def test_a_file_that_meets_a_lock_is_sent_again_and_nobody_waits_behind_it_for_long(empty: str) -> None:
    """Row level security takes a table's whole lock for a moment: a long reader of `jobs` must not be in its way."""
    with psycopg.connect(empty, autocommit=True) as conn:
        for migration in load()[:8]:
            conn.execute(migration.text.encode())
    said: list[str] = []
    with psycopg.connect(empty) as reader:
        reader.execute("SELECT FROM holdfast.jobs")

        def pause(_: float) -> None:
            reader.rollback()

        route = Connected(empty)
        try:
            done = list(apply_pending(route, read_status(route), waits=said.append, pause=pause))
        finally:
            route.close()
    assert done == load()[8:]
    assert len(said) == 1
    assert said[0].startswith("009_access: a lock is held by somebody else; again in")


def test_a_lock_that_is_never_let_go_is_told_and_nothing_was_kept(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as conn:
        for migration in load()[:8]:
            conn.execute(migration.text.encode())
    paused: list[float] = []
    quick = Connected(empty)
    run = quick.run
    quick.run = lambda text: run(text.replace("'3s'", "'50ms'"))  # type: ignore[method-assign]
    try:
        with psycopg.connect(empty) as reader:
            reader.execute("SELECT FROM holdfast.jobs")
            with pytest.raises(MigrationError, match="009_access met a lock 7 times, and nothing of it was kept"):
                list(apply_pending(quick, read_status(quick), pause=paused.append))
        assert [status.state for status in read_status(quick)][7:9] == ["applied", "pending"]
    finally:
        quick.close()
    assert paused == list(LOCK_PAUSES)


@pytest.mark.parametrize(
    ("breaks", "code", "said"),
    [
        ("ALTER ROLE {role} SET default_transaction_read_only = on", "read-only transaction", "lead to the primary"),
        ("SELECT", "permission denied for database", "GRANT CREATE ON DATABASE"),
    ],
    ids=["read-only", "may not create"],
)
def test_what_is_refused_for_another_reason_is_told_with_the_file_and_the_way_out(
    empty: str, breaks: str, code: str, said: str
) -> None:
    with psycopg.connect(empty, autocommit=True) as conn:
        conn.execute("CREATE ROLE refused LOGIN")
        try:
            conn.execute(breaks.format(role="refused").encode())
            with pytest.raises(MigrationError, match=f"migration 001_ledger failed, and nothing .* {code}.*{said}"):
                migrate_up(psycopg.conninfo.make_conninfo(empty, user="refused"))
        finally:
            conn.execute("DROP ROLE refused")


def test_an_object_that_is_gone_is_told_with_the_file_that_misses_it(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as conn:
        for migration in load()[:8]:
            conn.execute(migration.text.encode())
        conn.execute("DROP TABLE holdfast.jobs CASCADE")
    with pytest.raises(MigrationError, match=r"migration \d+_\w+ failed, .*holdfast.jobs") as told:
        migrate_up(empty)
    assert "run: holdfast migrate up" not in str(told.value), "that is what was run"


def test_a_file_that_was_edited_is_refused_by_its_checksum() -> None:
    migration = load()[0]
    edited = replace(migration, text=migration.text.replace("fillfactor = 50", "fillfactor = 60"))
    with pytest.raises(MigrationError, match="the file of migration 001_ledger was edited after it was made"):
        sealed(edited)


#: What no file may hold, in its body: each has broken somebody's migration, by hand or behind a pooler.
FORBIDDEN = {
    r"(?m)^\s*(BEGIN|COMMIT|ROLLBACK)\s*;": "a transaction's own verbs break the one transaction",
    r"(?i)CREATE\s+TYPE\s+\S+\s+AS\s+ENUM": "an enum cannot be changed in a transaction; text with CHECK can",
    r"(?im)^\s*SET\s+(?!LOCAL)": "a session's setting stays in the pooler's connection",
    r"(?i)\bCONCURRENTLY\b": "it cannot run in a transaction: a file of its own, without the block",
    r"(?i)CREATE\s+TABLE\s+(?!IF NOT EXISTS)": "a second run must do nothing",
    r"(?i)CREATE\s+(UNIQUE\s+)?INDEX\s+(?!IF NOT EXISTS)": "a second run must do nothing",
    r"(?i)pg_advisory_lock\s*\(": "a session's lock stays in the pooler's connection",
    r"(?i)CREATE\s+(OR REPLACE\s+)?(FUNCTION|VIEW)\s+(?!holdfast\.|public\.)": "it goes wherever the search path leads",
}


@pytest.mark.parametrize("migration", load(), ids=lambda migration: migration.name)
def test_a_body_holds_nothing_that_breaks_it_by_hand_or_behind_a_pooler(migration: Migration) -> None:
    outside = re.sub(r"AS \$function\$.*?\$function\$", "", body(migration.text), flags=re.DOTALL)
    outside = re.sub(r"(?m)^SET [\w.]+ (=|TO) .*$|--[^\n]*", "", outside)  # a function's own settings; comments
    found = [why for pattern, why in FORBIDDEN.items() if re.search(pattern, outside)]
    assert found == []


def test_the_files_are_what_the_build_script_would_write() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "build_migrations.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_database_holds_the_function_bodies_that_are_in_the_folder(database: str) -> None:
    with open_session(database) as conn:
        stored = {
            each["proname"]: each["prosrc"]
            for each in rows(
                conn,
                "SELECT proname, prosrc FROM pg_proc WHERE (pronamespace = 'holdfast'::regnamespace"
                " AND proname NOT IN ('clock', 'postgres_started_at'))",
            )
        }
    written = {}
    for path in (PACKAGE / "postgres" / "functions").glob("*.sql"):
        if body := re.search(r"AS \$function\$(.*)\$function\$", path.read_text(), re.DOTALL):
            written[path.stem] = body[1]
    assert stored == {**written, **statements_as_functions()}


def statements_as_functions() -> dict[str, str]:
    """Those that the build script makes of statements; that it does so from what is in sql/ is checked above."""
    made = {}
    for migration in load():
        for name, text in re.findall(
            r"CREATE OR REPLACE FUNCTION holdfast\.(\w+)\([^$]*?AS \$function\$(.*?)\$function\$",
            migration.text,
            re.DOTALL,
        ):
            if any(f"-- RPC {name}(" in path.read_text() for path in STATEMENTS):
                made[name] = text
    return made


def test_nothing_in_the_schema_is_for_everybody(database: str) -> None:
    with open_session(database) as conn:
        open_functions = rows(
            conn,
            "SELECT proname FROM pg_proc WHERE pronamespace = 'holdfast'::regnamespace"
            " AND has_function_privilege('public', oid, 'EXECUTE')"
            " AND proname NOT IN ('clock', 'postgres_started_at')",
        )
        usage = row(conn, "SELECT has_schema_privilege('public', 'holdfast', 'USAGE') AS yes")
    assert open_functions == []
    assert not usage["yes"]


def test_every_function_pins_its_search_path_and_runs_as_its_caller(database: str) -> None:
    with open_session(database) as conn:
        ours = rows(
            conn,
            "SELECT proname, prosecdef, coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)"
            " AS pinned FROM pg_proc WHERE pronamespace = 'holdfast'::regnamespace OR proname LIKE 'holdfast\\_%'",
        )
    assert [each["proname"] for each in ours if not each["pinned"]] == []
    assert {each["proname"] for each in ours if each["prosecdef"]} == OF_THE_OWNER


#: These run with their owner's rights, since roles without any call them; none is granted to anybody by default.
OF_THE_OWNER = {"postgrest_rate_limit"}


def as_prepared(text: str) -> tuple[str, int]:
    """The statement with $1, $2 for psycopg's named placeholders, and how many there are."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    for position, name in enumerate(names, start=1):
        text = text.replace(f"%({name})s", f"${position}")
    return text.replace("%%", "%"), len(names)


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: path.stem)
def test_every_statement_prepares_on_the_migrated_schema(database: str, path: Path) -> None:
    text, _ = as_prepared(path.read_text())
    with open_session(database) as conn:
        conn.execute(sql.SQL("PREPARE statement AS ") + sql.SQL(text))


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: path.stem)
def test_every_statement_is_used_by_name(path: Path) -> None:
    sources = [source.read_text() for source in PACKAGE.rglob("*.py")]
    assert any(f'"{path.stem}"' in source for source in sources), f"nothing reads {path.name}"


def body(text: str) -> str:
    """What a file does, taken out of the block that guards and records it."""
    found = re.search(r"^-- migration body\n(.*)^-- end of migration body$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("migration", load(), ids=lambda migration: migration.name)
def test_the_linter_finds_nothing_in_a_body(migration, tmp_path: Path) -> None:
    squawk = shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")
    assert squawk is not None, "squawk is missing: install the development dependencies (squawk-cli)"
    path = tmp_path / f"{migration.name}.sql"
    path.write_text(body(migration.text))
    command = [squawk, "--assume-in-transaction", "--pg-version", "15.0", "--reporter", "json"]
    command += [f"--exclude={','.join(NOT_APPLICABLE)}", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [f"{each['line']}: {each['rule_name']}: {each['message']}" for each in json.loads(result.stdout or "[]")]
    assert not found
    assert result.returncode == 0, result.stderr
