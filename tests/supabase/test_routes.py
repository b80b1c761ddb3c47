"""`holdfast migrate` where the database's own port is closed: which ways it tries, what it says, which one it takes."""

import contextlib
import json
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from holdfast.postgres.migrate import load
from tests.cli.command import Answer, holdfast, in_terminal, running
from tests.supabase.management_server import REF, TOKEN, ManagementServer, management_server, page
from tests.support import database_copy, open_session, rows

#: The project's own address, on a port of this machine that nobody listens on.
CLOSED = f"postgresql://postgres:s3cret@db.{REF}.supabase.co:1/postgres?hostaddr=127.0.0.1"


@pytest.fixture
def api_server(bare: str) -> Iterator[ManagementServer]:
    with database_copy(bare, "template0") as dsn, management_server(dsn) as running_server:
        yield running_server


def migrate(*args: str, api_server: ManagementServer, cwd: Path, **given: str) -> Answer:
    known = {
        "DATABASE_URL": CLOSED,
        "SUPABASE_ACCESS_TOKEN": TOKEN,
        "HOLDFAST_SUPABASE_API_URL": api_server.address,
    }
    answer = holdfast("migrate", *args, cwd=cwd, **{**known, **given})
    assert "s3cret" not in answer.out + answer.err
    assert TOKEN not in answer.out + answer.err
    return answer


@contextlib.contextmanager
def relay(dsn: str) -> Iterator[int]:
    """A port of this machine that leads to the server's socket."""
    parts = conninfo.conninfo_to_dict(dsn)
    behind = f"{parts['host']}/.s.PGSQL.{parts.get('port') or 5432}"

    class Session(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(behind)
                ends = {self.request: server, server: self.request}
                while True:
                    for end in select.select(list(ends), [], [])[0]:
                        piece = end.recv(65536)
                        if not piece:
                            return
                        ends[end].sendall(piece)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()


def applied(dsn: str) -> list[int]:
    with open_session(dsn) as conn:
        return [each["version"] for each in rows(conn, "SELECT version FROM holdfast.schema_migrations ORDER BY 1")]


def test_everything_is_applied_over_https_and_each_way_that_was_tried_is_told(
    api_server: ManagementServer, tmp_path: Path
) -> None:
    answer = migrate("up", api_server=api_server, cwd=tmp_path)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == f"direct  trying database 'postgres' at db.{REF}.supabase.co:1"
    assert lines[1].startswith(f"direct  database 'postgres' at db.{REF}.supabase.co:1 cannot be reached: ")
    assert lines[1].endswith("(most projects have this address on IPv6 only)")
    assert lines[2] == f"pooler  trying to learn its address from {api_server.address} for project {REF}"
    assert lines[3] == f"pooler  {api_server.address} for project {REF} names no pooler for this project"
    assert lines[4] == f"api     trying {api_server.address} for project {REF}"
    assert lines[5] == (
        f"api     {api_server.address} for project {REF} answers: 0 of {len(load())} migrations applied"
    )
    assert lines[6:-1] == [f"applied {migration.name}" for migration in load()]
    assert applied(api_server.dsn) == [migration.version for migration in load()]
    again = migrate("up", api_server=api_server, cwd=tmp_path)
    assert (again.code, again.out.splitlines()[-1].startswith("nothing to do: ")) == (0, True)
    assert json.loads(migrate("status", "--json", api_server=api_server, cwd=tmp_path).out)["up_to_date"] is True


def test_the_session_pooler_is_learned_over_https_and_taken_first(api_server: ManagementServer, tmp_path: Path) -> None:
    parts = conninfo.conninfo_to_dict(api_server.dsn)
    api_server.pooler = {
        "database_type": "PRIMARY",
        "db_host": parts["host"],
        "db_port": int(parts["port"] or 5432),
        "db_user": parts["user"],
        "db_name": parts["dbname"],
        "pool_mode": "transaction",
    }
    answer = migrate("up", "--json", api_server=api_server, cwd=tmp_path)
    told = json.loads(answer.out)
    assert (answer.code, told["via"]) == (0, "pooler"), answer.err
    assert [(each["route"], each["worked"]) for each in told["tried"]] == [("direct", False), ("pooler", True)]
    assert all("/database/query" not in path for path, _ in api_server.asked)


def test_programs_learn_which_ways_were_tried(api_server: ManagementServer, tmp_path: Path) -> None:
    told = json.loads(migrate("up", "--json", api_server=api_server, cwd=tmp_path).out)
    assert [(each["route"], each["worked"]) for each in told["tried"]] == [
        ("direct", False),
        ("pooler", False),
        ("api", True),
    ]
    assert told["via"] == "api"


def test_a_way_that_was_asked_for_is_the_only_one(api_server: ManagementServer, tmp_path: Path) -> None:
    answer = migrate("up", "--via", "api", api_server=api_server, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "direct" not in answer.out
    answer = migrate("up", "--via", "direct", api_server=api_server, cwd=tmp_path)
    assert answer.code == 3
    assert "cannot be reached" in answer.err


def test_without_a_token_it_says_what_would_open_the_way(api_server: ManagementServer, tmp_path: Path) -> None:
    answer = migrate("up", api_server=api_server, cwd=tmp_path, SUPABASE_ACCESS_TOKEN="")
    assert answer.code == 3
    assert "api     not tried: set SUPABASE_ACCESS_TOKEN (a token of your account, sbp_...)" in answer.err
    assert f"https://supabase.com/dashboard/project/{REF}/sql/new" in answer.err
    explicit = migrate("up", "--via", "api", api_server=api_server, cwd=tmp_path, SUPABASE_ACCESS_TOKEN="")
    assert (explicit.code, explicit.err) == (
        2,
        "error: --via api: set SUPABASE_ACCESS_TOKEN (a token of your account, sbp_...)\n",
    )


def test_who_is_refused_by_the_database_does_not_try_the_same_password_at_the_pooler(
    api_server: ManagementServer, tmp_path: Path
) -> None:
    with relay(api_server.dsn) as port:
        refused = CLOSED.replace(":1/postgres", f":{port}/no_such_database")
        answer = migrate("up", api_server=api_server, cwd=tmp_path, DATABASE_URL=refused)
    assert answer.code == 0, answer.err
    assert "refuses the connection" in answer.out
    assert "pooler  not tried: it takes the same password, and a few wrong ones close it for a while" in answer.out
    assert applied(api_server.dsn) == [migration.version for migration in load()]


def test_a_proxy_that_answers_with_its_own_page_is_told_as_one(api_server: ManagementServer, tmp_path: Path) -> None:
    api_server.misbehave.extend([page(502)] * 2)
    answer = migrate("up", api_server=api_server, cwd=tmp_path)
    assert answer.code == 3
    assert "it answered 502 (a page of text/html titled '502 Bad Gateway': a proxy in between?)" in answer.err


def test_a_project_id_that_is_an_address_is_refused_with_the_way_out(
    api_server: ManagementServer, tmp_path: Path
) -> None:
    answer = migrate("up", api_server=api_server, cwd=tmp_path, SUPABASE_PROJECT_REF=f"https://{REF}.supabase.co")
    assert answer.code == 2
    assert f"SUPABASE_PROJECT_REF is 'https://{REF}.supabase.co'" in answer.err


def test_a_dry_run_shows_each_statement_and_does_nothing(api_server: ManagementServer, tmp_path: Path) -> None:
    answer = migrate("up", "--dry-run", api_server=api_server, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "-- 001_ledger" in answer.out
    assert "CREATE SCHEMA IF NOT EXISTS holdfast;" in answer.out
    assert answer.out.endswith(f"{len(load())} migrations would be applied; nothing was done\n")
    with open_session(api_server.dsn) as conn:
        assert rows(conn, "SELECT FROM pg_namespace WHERE nspname = 'holdfast'") == []


def test_files_pasted_by_hand_are_offered_one_by_one_until_the_ledger_shows_them(
    api_server: ManagementServer, tmp_path: Path
) -> None:
    """Somebody pastes each file that is offered; it is looked for over the one way that is open."""
    with psycopg.connect(api_server.dsn, autocommit=True) as before:
        for migration in load()[:-2]:
            before.execute(migration.text.encode())
    given = {"DATABASE_URL": CLOSED, "SUPABASE_ACCESS_TOKEN": TOKEN, "HOLDFAST_SUPABASE_API_URL": api_server.address}
    with running("migrate", "up", "--via", "paste", cwd=tmp_path, **given) as command:
        for migration in load()[-2:]:
            command.says(f"{migration.name}: paste the whole of holdfast-{migration.name}.sql into")
            text = (tmp_path / f"holdfast-{migration.name}.sql").read_bytes()
            with psycopg.connect(api_server.dsn, autocommit=True) as editor:
                editor.execute(text)
            command.says(f"applied {migration.name}")
        assert command.ends() == 0
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_over_https_apply_each_file_once(api_server: ManagementServer, tmp_path: Path) -> None:
    answers: list[Answer] = []

    def run() -> None:
        answers.append(migrate("up", api_server=api_server, cwd=tmp_path))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.code for answer in answers] == [0, 0], answers
    assert applied(api_server.dsn) == [migration.version for migration in load()]


def test_a_token_read_from_a_file_with_its_line_break_is_a_token(api_server: ManagementServer, tmp_path: Path) -> None:
    answer = migrate("status", "--via", "api", api_server=api_server, cwd=tmp_path, SUPABASE_ACCESS_TOKEN=f"{TOKEN}\n")
    assert "001_ledger" in answer.out, answer.err


@pytest.mark.parametrize(
    "other",
    [{"SUPABASE_PROJECT_REF": "z" * 20}, {"SUPABASE_URL": f"https://{'z' * 20}.supabase.co"}],
    ids=lambda other: next(iter(other)),
)
def test_settings_of_two_projects_are_refused_before_either_is_changed(
    api_server: ManagementServer, tmp_path: Path, other: dict[str, str]
) -> None:
    answer = migrate("up", api_server=api_server, cwd=tmp_path, **other)
    assert answer.code == 2
    (setting,) = other
    assert f"different Supabase projects: {setting} names {'z' * 20}, DATABASE_URL names {REF}" in answer.err
    assert api_server.asked == []


def test_a_pasted_file_that_was_edited_is_told_at_once(api_server: ManagementServer, tmp_path: Path) -> None:
    last = load()[-1]
    with psycopg.connect(api_server.dsn, autocommit=True) as before:
        for migration in load()[:-1]:
            before.execute(migration.text.encode())
    given = {"DATABASE_URL": CLOSED, "SUPABASE_ACCESS_TOKEN": TOKEN, "HOLDFAST_SUPABASE_API_URL": api_server.address}
    with running("migrate", "up", "--via", "paste", cwd=tmp_path, **given) as command:
        command.says(f"{last.name}: paste the whole of")
        with psycopg.connect(api_server.dsn, autocommit=True) as editor:
            editor.execute(last.text.replace(last.checksum, "0" * 64).encode())
        assert command.ends() == 1


@pytest.mark.parametrize("args", [["status"], ["up", "--dry-run"]], ids=" ".join)
def test_who_only_looks_is_offered_nothing_to_paste(
    api_server: ManagementServer, tmp_path: Path, args: list[str]
) -> None:
    answer = migrate(*args, "--via", "paste", api_server=api_server, cwd=tmp_path)
    assert "001_ledger" in answer.out, answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_told_with_the_way_out(api_server: ManagementServer, tmp_path: Path) -> None:
    (tmp_path / f"holdfast-{load()[0].name}.sql").mkdir()
    answer = migrate("up", "--via", "paste", api_server=api_server, cwd=tmp_path)
    assert answer.code == 2
    assert "run this in another folder, or: holdfast migrate print > FILE" in answer.err


#: A database of one's own that does not answer, beside the settings of a project.
ELSEWHERE = "postgresql://me:s3cret@127.0.0.1:1/app"
BESIDE = {"DATABASE_URL": ELSEWHERE, "SUPABASE_URL": f"https://{REF}.supabase.co"}


def test_another_database_that_does_not_answer_is_not_replaced_by_the_project(
    api_server: ManagementServer, tmp_path: Path
) -> None:
    for given in (BESIDE, {"DATABASE_URL": ELSEWHERE, "SUPABASE_PROJECT_REF": REF}):
        answer = migrate("up", api_server=api_server, cwd=tmp_path, **given)
        assert answer.code == 3
        assert "database 'app' at 127.0.0.1:1 cannot be reached" in answer.err
        assert "The Supabase project of the settings was not tried" in answer.err
        assert "--via api" in answer.err
    assert api_server.asked == []


def test_who_means_the_project_says_so_and_the_other_database_s_password_stays_here(
    api_server: ManagementServer, tmp_path: Path
) -> None:
    pooler = migrate("up", "--via", "pooler", api_server=api_server, cwd=tmp_path, **BESIDE)
    assert (pooler.code, "set SUPABASE_DB_PASSWORD" in pooler.err) == (2, True)
    answer = migrate("up", "--via", "api", api_server=api_server, cwd=tmp_path, **BESIDE)
    assert answer.code == 0, answer.err
    assert applied(api_server.dsn) == [migration.version for migration in load()]


def test_who_pastes_in_a_terminal_finds_the_editor_open(tmp_path: Path) -> None:
    """Also where no way to the database is open, and so nothing can be followed."""
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    said = in_terminal(
        "migrate", "up", "--via", "paste", cwd=tmp_path, SUPABASE_PROJECT_REF=REF, BROWSER=str(browser), COLUMNS="200"
    )
    assert opened.read_text() == f"https://supabase.com/dashboard/project/{REF}/sql/new\n"
    assert "paste the whole of" in said
