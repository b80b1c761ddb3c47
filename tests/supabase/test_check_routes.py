"""What the doctor says of the ways to a database."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.rest import rest_address
from holdfast.services.checks.routes import check_routes, describe_key
from holdfast.services.migrator import Target
from tests.cli.command import holdfast_here
from tests.supabase.management_server import REF, TOKEN, ManagementServer, management_server
from tests.supabase.project import token


@pytest.fixture
def api_server(bare: str) -> Iterator[ManagementServer]:
    with management_server(bare) as running:
        yield running


@pytest.fixture
def port() -> Iterator[int]:
    """One that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def by_id(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.id: finding for finding in findings}


async def test_a_closed_port_and_an_open_api_are_told_apart(api_server: ManagementServer) -> None:
    dsn = f"postgresql://postgres:s3cret@db.{REF}.supabase.co:1/postgres?hostaddr=127.0.0.1"
    target = Target(dsn, REF, SecretStr(TOKEN), api_address=api_server.address)
    found = by_id(await check_routes(target, None, seen_working=False))
    assert found["routes.direct"].verdict is Verdict.SKIP
    assert found["routes.direct"].found.endswith("TCP to port 1: connection refused")
    assert "names no pooler" in found["routes.pooler"].found
    assert found["routes.api"].verdict is Verdict.PASS
    assert f"this token may run SQL in project {REF}" in found["routes.api"].found
    assert (found["routes.open"].verdict, found["routes.open"].found) == (Verdict.PASS, "open from here: api")
    assert "s3cret" not in str(found)
    assert TOKEN not in str(found)


async def test_a_pooler_is_told_with_its_mode_and_its_records(api_server: ManagementServer, port: int) -> None:
    api_server.pooler = {"db_host": "localhost", "db_port": port, "db_user": f"postgres.{REF}", "db_name": "postgres"}
    target = Target(None, REF, SecretStr(TOKEN), api_address=api_server.address)
    found = by_id(await check_routes(target, None, seen_working=False))
    assert found["routes.pooler"].verdict is Verdict.PASS
    assert "localhost: A" in found["routes.pooler"].found
    assert f"TCP to port {port} is open" in found["routes.pooler"].found


async def test_where_nothing_is_open_it_says_what_would_open_a_way() -> None:
    target = Target(f"postgresql://postgres:x@db.{REF}.supabase.co:1/postgres?hostaddr=127.0.0.1", REF)
    found = by_id(await check_routes(target, None, seen_working=False))
    assert found["routes.open"].verdict is Verdict.FAIL
    assert "set SUPABASE_ACCESS_TOKEN for migrations over HTTPS" in found["routes.open"].fix
    assert "needs SUPABASE_ACCESS_TOKEN" in found["routes.api"].found


async def test_of_a_socket_of_this_machine_there_is_nothing_to_tell() -> None:
    assert await check_routes(Target("postgresql:///x?host=/tmp/nobody"), None, seen_working=False) == []


async def test_a_name_without_an_address_is_told_as_such() -> None:
    target = Target("postgresql://u:x@db.nobody.invalid/x")
    found = by_id(await check_routes(target, None, seen_working=False))
    assert "db.nobody.invalid: no address" in found["routes.direct"].found


async def test_a_host_that_has_ipv6_alone_is_told_as_such(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """The name server is the only stand-in; the address is a real one, and nobody listens on it."""

    def resolve(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    target = Target(f"postgresql://u:x@db.{REF}.supabase.co:{port}/x", REF)
    found = by_id(await check_routes(target, None, seen_working=False))
    assert "AAAA record only: IPv6-only; TCP to port" in found["routes.direct"].found


async def test_a_key_of_the_wrong_kind_is_told_without_the_key() -> None:
    key = token("anon", ref=REF)
    target = Target(None, REF)
    found = by_id(await check_routes(target, rest_address("https://127.0.0.1:1", key), seen_working=False))
    assert found["routes.https"].verdict is Verdict.SKIP
    assert "holds a key of kind anon" in found["routes.https"].found
    assert key not in str(found)


def test_a_legacy_key_names_its_role_and_project() -> None:
    assert describe_key(token("service_role", ref=REF)) == f"service_role, a JWT of project {REF}"


def test_its_lines_are_listed_and_can_be_asked_for_alone(tmp_path: Path) -> None:
    project = {"DATABASE_URL": f"postgresql://u:x@db.{REF}.supabase.co:1/x?hostaddr=127.0.0.1"}
    listed = json.loads(holdfast_here("doctor", "--list", "--json", cwd=tmp_path, **project).out)["lines"]
    ways = ["routes.direct", "routes.pooler", "routes.api", "routes.open"]
    assert [each["id"] for each in listed if each["component"].startswith("route")] == ways
    for given in (project, {"DATABASE_URL": "postgresql://u:x@127.0.0.1:1/x"}):
        answer = holdfast_here("doctor", "--only", "routes", "--json", cwd=tmp_path, **given)
        told = [each["id"] for each in json.loads(answer.out)["findings"]]
        wanted = ways if given is project else ["routes.direct", "routes.open"]
        assert told == ["database.answers", *wanted], answer.err
