"""The command as a whole: help, usage, and what an error becomes."""

import json
import shlex
import socket
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from holdfast import errors
from holdfast.cli.main import INSTALL, exit_code
from holdfast.postgres.migrate import load, read_status
from tests import support
from tests.cli.command import COMMAND, PATIENCE, environment, holdfast, in_terminal
from tests.support import Session

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_SERVER = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "typer" else find_spec(name, *more)
from holdfast.cli.main import main
main()
"""


def test_it_says_its_version(tmp_path: Path) -> None:
    assert holdfast("--version", cwd=tmp_path).out == f"holdfast {version('holdfast')}\n"


def test_it_says_for_programs_what_is_installed(tmp_path: Path) -> None:
    said = json.loads(holdfast("--version", "--json", cwd=tmp_path).out)
    assert (said["schema"], said["holdfast"]) == (1, version("holdfast"))
    assert said["schema_level"] == load()[-1].version
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(said["extras"]) == set(declared) - {"all"}
    assert said["extras"]["server"] is True
    assert said["packages"]["psycopg"] == version("psycopg")


def test_json_alone_is_no_question(tmp_path: Path) -> None:
    answer = holdfast("--json", cwd=tmp_path)
    assert answer.code == 2
    assert "it goes with --version, or after a command" in answer.err


def test_help_names_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    answer = holdfast("--help", cwd=tmp_path)
    assert answer.code == 0
    for command in ("up", "worker", "migrate", "jobs", "demo"):
        assert f"\n  {command} " in answer.out
    assert "Exit codes: 0 done" in answer.out
    assert "3 the database does not answer" in answer.out


@pytest.mark.parametrize(("typed", "meant"), [(["migarte"], "migrate"), (["jobs", "lsit"], "list")])
def test_a_mistyped_command_gets_a_suggestion(typed: list[str], meant: str, tmp_path: Path) -> None:
    answer = holdfast(*typed, cwd=tmp_path)
    assert answer.code == 2
    assert f"Did you mean '{meant}'?" in answer.err


def test_without_the_extra_it_prints_the_line_that_installs_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SERVER], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"error: the holdfast command needs the extra `server`: {INSTALL}\n"


def test_the_entry_point_imports_nothing_of_the_extra() -> None:
    check = "import sys, holdfast.cli.main; print({'typer', 'rich', 'fastapi', 'uvicorn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_unknown_setting_names_the_one_that_was_meant(tmp_path: Path) -> None:
    answer = holdfast("jobs", "list", cwd=tmp_path, HOLDFAST_SLOTTS="3")
    assert answer.code == 2
    assert answer.err == ("error: unknown setting HOLDFAST_SLOTTS in the environment; did you mean HOLDFAST_SLOTS?\n")


def test_a_bad_value_names_the_setting_and_where_it_came_from(tmp_path: Path) -> None:
    answer = holdfast("worker", "tasks:hf", "--slots", "0", cwd=tmp_path)
    assert answer.code == 2
    assert answer.err.startswith("error: setting slots from the command line:")


def test_an_unreachable_database_is_one_line_without_the_password(tmp_path: Path) -> None:
    answer = holdfast("jobs", "list", cwd=tmp_path, DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/ledger")
    assert answer.code == 3
    assert answer.err.startswith("error: database 'ledger' at 127.0.0.1:1 cannot be reached")
    assert len(answer.err.splitlines()) == 1
    assert "hunter2" not in answer.err + answer.out


def test_what_is_no_connection_string_is_refused(tmp_path: Path) -> None:
    answer = holdfast("migrate", "status", "--database-url", "hunter2:wrong", cwd=tmp_path)
    assert answer.code == 2
    assert "DATABASE_URL is not a Postgres connection string" in answer.err
    assert "hunter2" not in answer.err


def test_a_database_and_a_data_folder_are_not_given_at_once(tmp_path: Path) -> None:
    answer = holdfast("jobs", "list", "--database-url", "postgresql:///x", "--data-dir", "/tmp/x", cwd=tmp_path)
    assert answer.code == 2
    assert "give one of them" in answer.err


def test_a_schema_that_lacks_a_migration_says_what_to_run(database: str, conn: Session, tmp_path: Path) -> None:
    conn.execute("DELETE FROM holdfast.schema_migrations WHERE version = 3")
    answer = holdfast("jobs", "list", cwd=tmp_path, DATABASE_URL=database)
    assert answer.code == 1
    assert answer.err.startswith("error: the database lacks 1 of ")
    assert answer.err.endswith("run: holdfast migrate up\n")


def test_a_schema_of_a_newer_holdfast_serves_commands_and_is_not_migrated(
    database: str, conn: Session, tmp_path: Path
) -> None:
    conn.execute("INSERT INTO holdfast.schema_migrations (version, name, checksum) VALUES (999, '999_future', 'x')")
    assert holdfast("jobs", "list", cwd=tmp_path, DATABASE_URL=database).code == 0
    answer = holdfast("migrate", "up", cwd=tmp_path, DATABASE_URL=database)
    assert answer.code == 1
    assert "newer than this Holdfast: it has migration 999_future; upgrade Holdfast" in answer.err


def test_a_server_that_is_too_old_is_refused() -> None:
    answer = {"has_schema": False, "has_objects": False, "has_records": False, "server_version": 140_010}
    connection: Any = SimpleNamespace(rows=lambda _: [answer])
    with pytest.raises(errors.DatabaseTooOld, match="Postgres 14; Holdfast needs Postgres 15"):
        read_status(cast(Any, connection))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), 2),
        (errors.AppLoadError("x"), 2),
        (errors.DatabaseUnavailable("x"), 3),
        (errors.SchemaMismatch("x"), 1),
        (errors.JobNotFound("x"), 1),
    ],
)
def test_an_error_has_its_exit_code(error: errors.HoldfastError, code: int) -> None:
    assert exit_code(error) == code


def test_ctrl_c_ends_a_command_quietly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        port = silent.getsockname()[1]
        process = subprocess.Popen(
            [*COMMAND, "jobs", "list"],
            cwd=tmp_path,
            env=environment(DATABASE_URL=f"postgresql://u@127.0.0.1:{port}/x?sslmode=disable&gssencmode=disable"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        accepted, _ = silent.accept()
        with accepted:
            process.send_signal(2)
            out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_terminal_gets_colour_unless_no_color_is_set(database: str, tmp_path: Path) -> None:
    assert "\x1b[" in in_terminal("migrate", "status", cwd=tmp_path, DATABASE_URL=database)
    assert "\x1b" not in in_terminal("migrate", "status", cwd=tmp_path, DATABASE_URL=database, NO_COLOR="1")
    assert "\x1b" not in in_terminal("worker", cwd=tmp_path, NO_COLOR="1")


# Completion


def complete(line: str, folder: Path, **given: str) -> list[str]:
    """What bash would offer for the last word."""
    words = line.split(" ")
    done = subprocess.run(
        [*COMMAND],
        cwd=folder,
        env=environment(_HOLDFAST_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **given),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout.split()


def test_a_shell_completes_commands_options_and_values(tmp_path: Path) -> None:
    shown = subprocess.run(
        ["bash", "-c", f"{shlex.join(COMMAND)} --show-completion; exit $?"],  # the shell is told by who started it
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "_HOLDFAST_COMPLETE=complete_bash" in shown.stdout, shown.stderr
    assert complete("holdfast j", tmp_path) == ["jobs"]
    assert "--status" in complete("holdfast jobs list --st", tmp_path)
    assert complete("holdfast jobs list --status d", tmp_path) == ["dead"]


def test_a_shell_completes_names_that_the_ledger_knows(database: str, conn: Session, tmp_path: Path) -> None:
    support.register(conn, queues=["mail", "maps"], kinds=["send_mail", "draw"])
    assert complete("holdfast queues pause ma", tmp_path, DATABASE_URL=database) == ["mail", "maps"]
    assert complete("holdfast jobs list --kind s", tmp_path, DATABASE_URL=database) == ["send_mail"]
    assert complete("holdfast jobs list --kind s", tmp_path, DATABASE_URL="postgresql://127.0.0.1:9/x") == []
