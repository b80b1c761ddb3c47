"""Supabase's Management API as a way for migrations: what it answers, and everything that can come instead."""

from collections.abc import Iterator

import psycopg
import pytest

from holdfast.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable, MigrationError, SchemaMismatch
from holdfast.postgres.management import TRIES, ManagementApi
from holdfast.postgres.migrate import apply_pending, load, read_status
from holdfast.postgres.routes import StatementError
from tests.supabase.management_server import (
    READER,
    REF,
    STRANGER,
    TOKEN,
    Answer,
    ManagementServer,
    applied_then_lost,
    half_sent,
    management_server,
    page,
    refused,
    too_many,
)
from tests.support import database_copy, open_session, row


@pytest.fixture
def api_server(bare: str) -> Iterator[ManagementServer]:
    with database_copy(bare, "template0") as dsn, management_server(dsn) as running:
        yield running


class Paused(list[float]):
    """How long somebody would have waited."""


def api(api_server: ManagementServer, *, token: str = TOKEN, ref: str = REF, paused: list[float] | None = None):
    waits = Paused() if paused is None else paused
    return ManagementApi(ref, token, address=api_server.address, pause=waits.append)


def test_everything_is_applied_over_it_and_a_second_time_nothing(api_server: ManagementServer) -> None:
    route = api(api_server)
    assert {status.state for status in read_status(route)} == {"pending"}
    assert list(apply_pending(route, read_status(route))) == load()
    assert {status.state for status in read_status(route)} == {"applied"}
    assert list(apply_pending(route, read_status(route))) == []


@pytest.mark.parametrize(
    "answer",
    [page(502), page(200), too_many("3"), refused(500), refused(544), half_sent, applied_then_lost],
    ids=["proxy", "html", "429", "500", "544", "half sent", "applied, answer lost"],
)
def test_what_says_nothing_about_a_file_is_tried_again(api_server: ManagementServer, answer: Answer) -> None:
    paused: list[float] = []
    route = api(api_server, paused=paused)
    statuses = read_status(route)
    api_server.misbehave.extend([answer, answer])
    assert list(apply_pending(route, statuses)) == load()
    assert len(paused) == 2
    assert all(status.state == "applied" for status in read_status(route))


def test_it_waits_as_long_as_it_is_told(api_server: ManagementServer) -> None:
    paused: list[float] = []
    api_server.misbehave.append(too_many("17"))
    api(api_server, paused=paused).run("SELECT 1")
    assert paused == [17.0]


def test_an_api_that_never_answers_well_is_given_up_with_its_last_words(api_server: ManagementServer) -> None:
    paused: list[float] = []
    api_server.misbehave.extend([page(502)] * TRIES)
    with pytest.raises(DatabaseUnavailable, match=r"it answered 502 .*'502 Bad Gateway': a proxy in between\?"):
        api(api_server, paused=paused).run("SELECT 1")
    assert len(paused) == TRIES - 1


def test_a_file_that_fails_is_told_in_postgres_words_and_keeps_nothing(api_server: ManagementServer) -> None:
    with psycopg.connect(api_server.dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA holdfast CREATE VIEW jobs AS SELECT 1")
        conn.execute(
            "CREATE TABLE holdfast.schema_migrations"
            " (version integer PRIMARY KEY, name text, checksum text, applied_at timestamptz DEFAULT now())"
        )
    route = api(api_server)
    with pytest.raises(MigrationError, match=r"migration 001_ledger failed, and nothing of it was kept"):
        list(apply_pending(route, read_status(route)))
    with open_session(api_server.dsn) as conn:
        assert row(conn, "SELECT count(*) AS n FROM holdfast.schema_migrations")["n"] == 0
        assert row(conn, "SELECT to_regprocedure('holdfast.clock()') IS NULL AS gone")["gone"]


def test_an_error_of_a_statement_keeps_its_sqlstate(api_server: ManagementServer) -> None:
    with pytest.raises(StatementError, match="does_not_exist") as raised:
        api(api_server).rows("SELECT * FROM does_not_exist")
    assert raised.value.sqlstate == "42P01"


@pytest.mark.parametrize(
    ("token", "ref", "words"),
    [
        ("sbp_expired", REF, "has expired, or was revoked; make one at https://supabase.com/dashboard/account/tokens"),
        (STRANGER, REF, "may not run SQL there"),
        (READER, REF, "scope database:write"),
        (TOKEN, "zzzzzzzzzzzzzzzzzzzz", "set SUPABASE_PROJECT_REF to it"),
    ],
)
def test_a_refusal_says_whose_fault_it_is(api_server: ManagementServer, token: str, ref: str, words: str) -> None:
    with pytest.raises(DatabaseRefused, match=words) as raised:
        read_status(api(api_server, token=token, ref=ref))
    assert token not in str(raised.value)


@pytest.mark.parametrize("key", ["sb_secret_abc", "sb_publishable_abc", "e30.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.x"])
def test_a_key_of_the_project_is_no_token(api_server: ManagementServer, key: str) -> None:
    with pytest.raises(ConfigurationError, match="it takes a token of your account") as raised:
        api(api_server, token=key)
    assert key not in str(raised.value)


def test_a_schema_of_that_name_that_is_not_ours_is_left_alone(api_server: ManagementServer) -> None:
    with psycopg.connect(api_server.dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA holdfast CREATE TABLE ships (name text)")
    with pytest.raises(SchemaMismatch, match="has a schema named holdfast that is not ours"):
        read_status(api(api_server))


@pytest.mark.parametrize("key", ["sbp_two words", "sbp_two\nlines", "sbp_ümlaut", "sbp_bell\a"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_told(api_server: ManagementServer, key: str) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_ACCESS_TOKEN holds a space, a line break") as raised:
        api(api_server, token=key)
    assert key not in str(raised.value)
    assert repr(key)[1:-1] not in str(raised.value)


def of_another_type(value: object) -> list[dict[str, object]]:
    return [{"has_schema": True, "has_objects": True, "has_records": True, "server_version": value}]


@pytest.mark.parametrize(
    "content",
    [{"ok": True}, None, [], ["text"], [{"other": 1}], [{}, {}], of_another_type(None), of_another_type("new")],
    ids=str,
)
def test_json_that_is_no_answer_to_the_question_is_told_as_such(api_server: ManagementServer, content: object) -> None:
    api_server.misbehave.append(lambda handler: handler.send(200, content))
    with pytest.raises(DatabaseUnavailable, match=r"in between\?"):
        read_status(api(api_server))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 407])
def test_a_page_of_a_proxy_is_not_taken_for_a_word_of_the_api(api_server: ManagementServer, status: int) -> None:
    api_server.misbehave.append(page(status))
    with pytest.raises(DatabaseUnavailable, match=f"it answered {status} with a page of text/html") as raised:
        read_status(api(api_server))
    assert not isinstance(raised.value, DatabaseRefused)


def test_a_refusal_without_a_code_of_postgres_leaves_the_other_ways_open(api_server: ManagementServer) -> None:
    api_server.misbehave.append(refused(400))
    with pytest.raises(DatabaseUnavailable, match="does not tell what is applied: refused with 400"):
        read_status(api(api_server))


def test_records_that_are_none_are_told_as_such(api_server: ManagementServer) -> None:
    well = lambda handler: handler.send(201, of_another_type(170000))  # noqa: E731
    api_server.misbehave.extend([well, lambda handler: handler.send(201, [{"version": "one"}])])
    with pytest.raises(DatabaseUnavailable, match="answered something else than it was asked"):
        read_status(api(api_server))


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"17",
        b'"text"',
        b"[null]",
        b"{}",
        b'[{"db_host": "h", "db_port": 1e400, "db_user": "u", "db_name": "n"}]',
    ],
    ids=bytes.decode,
)
def test_what_names_no_pooler_is_told_as_such(api_server: ManagementServer, content: bytes) -> None:
    api_server.misbehave.append(lambda handler: handler.raw(200, content, "application/json"))
    with pytest.raises(DatabaseUnavailable, match="names no pooler"):
        api(api_server).pooler()


def test_json_that_is_nested_without_end_is_no_json(api_server: ManagementServer) -> None:
    api_server.misbehave.append(lambda handler: handler.raw(201, b"[" * 100_000, "application/json"))
    with pytest.raises(DatabaseUnavailable, match="not with JSON"):
        read_status(api(api_server))
