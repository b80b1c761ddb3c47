#!/usr/bin/env python3
"""Write the migration files: the frame around each body, the bodies made of functions, the sealing trailer.

    python scripts/build_migrations.py            write
    python scripts/build_migrations.py --check    fail if a file is not what this script would write

Files that have landed are never edited: their hashes are on record in tests/postgres/migrations.json. Until 0.1 is
released this script renews the record; from then on it refuses to write a file on record, and only adds new ones. A
function that changes is then listed in a new file of FROM_FUNCTIONS as well; files with older bodies stay as they are.

A migration is one DO block, so it is one statement and one transaction however it is run: by the runner, in the SQL
Editor of a hosted service, by psql. The body of a table migration is edited in its file, between the two markers.
The body of a function migration is put together from postgres/functions/, where each function lives once.
"""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POSTGRES, RECORD = ROOT / "src" / "holdfast" / "postgres", ROOT / "tests" / "postgres" / "migrations.json"
MIGRATIONS, FUNCTIONS, STATEMENTS = POSTGRES / "migrations", POSTGRES / "functions", POSTGRES / "sql"

#: Function migrations, in the order of creation: a function in SQL must find what it calls.
FROM_FUNCTIONS = {
    "003_protocol_functions": (
        "enqueue_many",
        "enqueue_plain",
        "enqueue",
        "register_worker",
        "beat",
        "check_leases",
        "claim_candidates",
        "claim_admit",
        "claim",
        "progress",
        "settle",
        "cancel_jobs",
        "retry_jobs",
        "mark_workers_gone",
        "rescue_jobs",
        "release_lost_claims",
        "prune",
        "is_false_rescue",
        "count_events",
    ),
    "004_rate_limit_requests": (
        "rate_limit_requests",
        "rate_limit_key",
        "rate_limit_thin",
        "rate_limit_step",
        "rate_limit_rule",
        "rate_limit_hits",
        "rate_limit_peek",
        "rate_limit_refund",
        "rate_limit_set_rule",
        "rate_limit_reset",
        "rate_limit_beat",
        "rate_limit_leave",
        "rate_limit_prune",
        "check_rate_limit",
        "rate_limit_address",
        "postgrest_rate_limit",
    ),
    "005_find_stale_jobs_function": (
        "stale_jobs",
        "find_stale_jobs",
        "rescue_stale_jobs",
        "stale_jobs_view",
    ),
    "006_api": (
        "api_keys",
        "idempotency_keys",
        "services",
        "enqueue_once",
    ),
    "007_dead_letters": (
        "queues_to_ring",
        "dead_letters",
        "incidents",
        "collect_dead_jobs",
        "note_dead_letters",
        "capture_dead_letters",
        "dead_letter_groups",
        "record_incidents",
        "claim_notifications",
        "settle_notification",
    ),
    "008_schedules": (
        "schedules",
        "declare_schedules",
        "tick_schedule",
    ),
    "009_access": ("secure_schema", "expose_functions"),
    "010_functions_over_https": ("schema_catalog", "functions_over_https"),
    "011_redrives": (
        "dead_letter_queues",
        "begin_looks",
        "end_look",
        "list_dead_letter_queues",
        "redrives",
        "list_incidents",
        "incident_history",
        "incident_ack",
        "incident_silence",
        "matching_letters",
        "letter_groups",
        "list_letters",
        "show_letter",
        "letter_history",
        "redrive_counts",
        "judge_redrive",
        "redrive_dead_letters",
        "claim_redrive",
        "redrive_jobs",
        "take_redrive_messages",
        "settle_redrive_messages",
        "change_redrive",
        "list_redrives",
        "discard_dead_letters",
        "note_moved_letters",
        "dead_jobs_expiring",
        "last_sweep",
        "oldest_transaction",
        "prune_letters",
    ),
    "013_health": (
        "note_job_stats",
        "prune_bookkeeping",
        "health_server",
        "health_workers",
        "health_queues",
        "health_jobs",
        "health_stale",
        "health_dead",
        "health_told",
        "health_monitors",
        "health_limits",
        "health_report",
    ),
    "016_examination": ("describe_schema", "offer_stale_jobs"),
    "017_dashboard": (
        "sessions",
        "guard_audit_log",
        "audit_log",
        "bulk_operations",
        "search_jobs",
        "count_matching_jobs",
        "step_bulk_operation",
    ),
    "019_watches": (
        "watches",
        "watched_rows",
        "examine_watch",
        "find_watched",
        "rescue_watched",
        "begin_watches",
        "end_watch",
        "list_watches",
        "forget_watch",
        "take_watch_messages",
        "settle_watch_messages",
        "discover_tables",
    ),
    "021_autoscale": ("autoscale",),
}

#: Statements of sql/ that are functions as well, for callers that reach the database over HTTPS alone. The signature
#: stands in the statement's comment; the body is the statement.
FROM_STATEMENTS = {
    "010_functions_over_https": (
        "adopt_notifications",
        "announce_channels",
        "announce_service",
        "begin_sweep",
        "create_api_key",
        "end_sweep",
        "enqueue",
        "enqueue_once",
        "enqueue_one",
        "enqueue_plain",
        "job",
        "job_events",
        "job_outcomes",
        "key_ring",
        "list_api_keys",
        "list_jobs",
        "list_queues",
        "list_rate_limits",
        "list_schedules",
        "list_services",
        "list_workers",
        "live_kinds",
        "locked_stale_jobs",
        "matching_ids",
        "matching_jobs",
        "migration_records",
        "note_api_key_use",
        "open_incidents",
        "pause_channel",
        "pause_queues",
        "pause_schedule",
        "ping",
        "probe_find_stale_jobs",
        "probe_rate_limit_requests",
        "probe_stale_jobs_view",
        "rate_limit_rules",
        "rate_limit_table",
        "remove_schedule",
        "revoke_api_key",
        "ring",
        "run_status",
        "schema_owner",
        "show_rate_limits",
        "suspects_waiting",
        "top_rate_limits",
        "withdraw_service",
    ),
    "016_examination": (
        "forget_canary",
        "longest_silence",
        "missing_grants",
        "notices_of_death",
        "row_security",
        "server_facts",
    ),
}

BEGIN_BODY, END_BODY = "-- migration body\n", "-- end of migration body\n"

#: Nothing in the schema is for everybody: Postgres grants EXECUTE on new functions to PUBLIC by itself.
REVOKE = """
REVOKE ALL ON SCHEMA holdfast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
"""
#: From 009 on one function says who may do what; a migration that adds anything ends with it.
FIRST_SECURED = 9
#: Up to 010 functions_over_https.sql names what is called over HTTPS; later files expose their statements themselves,
#: and these functions.
FIRST_OVER_HTTPS = 10
LATER_OVER_HTTPS = (
    "describe_schema",
    "examine_watch",
    "find_watched",
    "rescue_watched",
    "begin_watches",
    "end_watch",
    "list_watches",
    "forget_watch",
    "take_watch_messages",
    "settle_watch_messages",
    "discover_tables",
)
EXPOSE = "\nSELECT holdfast.expose_functions(ARRAY[{names}]);\nNOTIFY pgrst, 'reload schema';\n"
SECURE = "\nSELECT holdfast.secure_schema();\n"

OF_A_STATEMENT = """\
{why}CREATE OR REPLACE FUNCTION holdfast.{signature}
LANGUAGE sql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $function$
{body}$function$;
"""

HEADER = """\
-- Holdfast migration {name}
-- To apply it by hand: paste the whole file into a SQL editor and run it, or: psql -f {name}.sql
-- It is one statement and so one transaction, it may be run any number of times, and it records itself in
-- holdfast.schema_migrations: once it is on record, running it again does nothing.
DO $holdfast$
BEGIN
    SET LOCAL lock_timeout = '3s';
    SET LOCAL client_min_messages = warning;
    PERFORM pg_advisory_xact_lock(hashtextextended('holdfast.migrations', 0));
    -- The catalog's tables are read, not asked through to_regclass: its cache may be older than the lock.
    IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'holdfast' AND c.relname = 'schema_migrations') THEN
        IF EXISTS (SELECT FROM holdfast.schema_migrations WHERE version = {version}) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE $migration$
"""

TRAILER = """\
    $migration$;
-- The checksum below covers every byte above this line.
    INSERT INTO holdfast.schema_migrations (version, name, checksum)
    VALUES ({version}, '{name}', '{checksum}');
END
$holdfast$;
"""
SEAL = "-- The checksum below covers every byte above this line.\n"


def from_statement(name: str) -> str:
    """A statement of sql/ as a function: its named parameters become $1, $2, in the order of its signature."""
    lines = (STATEMENTS / f"{name}.sql").read_text().splitlines(keepends=True)
    comment = [line for line in lines if line.startswith("--")]
    first = next((number for number, line in enumerate(comment) if line.startswith("-- RPC ")), None)
    if first is None:
        raise SystemExit(f"{name}.sql has no line that begins with -- RPC and tells its signature")
    signature = "\n    ".join(line.removeprefix("-- ").removeprefix("RPC ").strip() for line in comment[first:])
    arguments = signature[signature.index("(") + 1 : signature.index(")")]
    names = [each.split()[0].strip('"') for each in arguments.split(",") if each.strip()]
    body = "".join(line for line in lines if not line.startswith("--"))
    for number, argument in enumerate(names, start=1):
        body = body.replace(f"%({argument})s", f"${number}")
    if "%(" in body:
        raise SystemExit(f"{name}.sql has a parameter that its signature lacks")
    return OF_A_STATEMENT.format(why="".join(comment[:first]), signature=signature, body=body.replace("%%", "%"))


def end_of(name: str) -> str:
    """What closes a function migration: its functions over HTTPS, and who may do what."""
    if int(name[:3]) < FIRST_SECURED:
        return REVOKE
    exposed = re.findall(r"'(\w+)'", (FUNCTIONS / "functions_over_https.sql").read_text().partition("ARRAY[")[2])
    later = FROM_STATEMENTS.get(name, ()) if int(name[:3]) > FIRST_OVER_HTTPS else ()
    made = [each for each in FROM_FUNCTIONS[name] if each in exposed or each in LATER_OVER_HTTPS]
    ours = ", ".join(f"'{each}'" for each in (*made, *later))
    return (EXPOSE.format(names=ours) if ours else "") + SECURE


def body_of(name: str, current: str) -> str:
    if name in FROM_FUNCTIONS:
        parts = [from_statement(statement) for statement in FROM_STATEMENTS.get(name, ())]
        parts += [(FUNCTIONS / f"{function}.sql").read_text() for function in FROM_FUNCTIONS[name]]
        return "\n".join(parts) + end_of(name)
    match = re.search(re.escape(BEGIN_BODY) + "(.*)" + re.escape(END_BODY), current, re.DOTALL)
    if match is None:
        raise SystemExit(f"{name}: no body between the markers {BEGIN_BODY!r} and {END_BODY!r}")
    return match.group(1)


def render(name: str, current: str) -> str:
    version = int(name[:3])
    covered = HEADER.format(name=name, version=version) + BEGIN_BODY + body_of(name, current) + END_BODY
    covered += "    $migration$;\n"
    checksum = hashlib.sha256(covered.encode()).hexdigest()
    trailer = TRAILER.removeprefix("    $migration$;\n")
    return covered + trailer.format(version=version, name=name, checksum=checksum)


def is_released() -> bool:
    """Whether 0.1 is out, by this project's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return re.match(r"0\.1(\.0)?\.?(dev|a|b|rc)", version) is None


def landed() -> dict[str, str]:
    """The files that must stay as they are, with the hash of each."""
    found: dict[str, str] = json.loads(RECORD.read_text()) if is_released() and RECORD.exists() else {}
    edited = [name for name, known in found.items() if hash_of(MIGRATIONS / f"{name}.sql") != known]
    if edited:
        raise SystemExit(
            f"landed, and edited since: {', '.join(edited)}; bring them back (git checkout), and put what is to change"
            " into a new file"
        )
    return found


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def refuse_left_behind(fixed: dict[str, str]) -> None:
    """A function whose newest file has landed with another body must be listed in a new one."""
    newest = {part: name for name in sorted(FROM_FUNCTIONS) for part in FROM_FUNCTIONS[name]}
    texts = {part: (FUNCTIONS / f"{part}.sql").read_text() for part in newest}
    older = {part: name for name in sorted(FROM_STATEMENTS) for part in FROM_STATEMENTS[name]}
    found = [part for part, name in newest.items() if is_left_behind(name, texts[part], fixed)]
    found += [part for part, name in older.items() if is_left_behind(name, from_statement(part), fixed)]
    if found:
        raise SystemExit(f"changed, and their file has landed: {', '.join(found)}; list them in a new file as well")


def is_left_behind(name: str, text: str, fixed: dict[str, str]) -> bool:
    return name in fixed and text not in (MIGRATIONS / f"{name}.sql").read_text()


def write(path: Path, wanted: str) -> bool:
    """Write what is not there yet, unless this only checks; whether it was another."""
    if path.exists() and path.read_text() == wanted:
        return False
    if "--check" not in sys.argv:
        path.write_text(wanted)
    return True


def main() -> int:
    names = sorted({path.stem for path in MIGRATIONS.glob("*.sql")} | set(FROM_FUNCTIONS))
    used = {function for functions in FROM_FUNCTIONS.values() for function in functions}
    unused = {path.stem for path in FUNCTIONS.glob("*.sql")} - used
    if unused:
        raise SystemExit(f"functions in no migration: {', '.join(sorted(unused))}")
    fixed = landed()
    refuse_left_behind(fixed)
    paths = {name: MIGRATIONS / f"{name}.sql" for name in names}
    wanted = {
        name: render(name, path.read_text() if path.exists() else "")
        for name, path in paths.items()
        if name not in fixed
    }
    changed = [f"{name}.sql" for name, text in wanted.items() if write(paths[name], text)]
    record = {**fixed, **{name: hashlib.sha256(text.encode()).hexdigest() for name, text in wanted.items()}}
    if write(RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n"):
        changed.append(RECORD.name)
    print("changed: " + ", ".join(changed) if changed else "up to date")
    return 1 if changed and "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
