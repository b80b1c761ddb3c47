"""The examples of docs/rate-limits.md run as they stand."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.command import COMMAND
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, rows

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "rate-limits.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


async def test_the_examples_in_python_run(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    found: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, found)
    assert await found["may_send"]("ann")
    await found["main"](database)
    assert capsys.readouterr().out == "found, and 4 left\n"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(found["app"]), base_url="http://here") as caller:
        assert (await caller.get("/report")).json() == "ready"
        answers = [(await caller.post("/login?user=ann")).status_code for _ in range(6)]
    assert answers == [200] * 5 + [429]
    assert found["view"]("ann")[1]["RateLimit-Policy"] == '"100;w=60";q=100;w=60'
    found["threads"].close()
    await found["rate_limit"].__globals__["_own"]().close()


def test_the_commands_run(database: str, tmp_path: Path) -> None:
    (block,) = blocks("sh")
    commands = [line.partition("#")[0].split() for line in block.splitlines()]
    assert len(commands) == 8
    assert COMMAND
    for command in commands:
        answer = holdfast(*command[1:], cwd=tmp_path, DATABASE_URL=database)
        assert answer.code == 0, f"{command}: {answer.err}"


def test_the_statements_run(conn: Session) -> None:
    call, setup = blocks("sql")
    assert rows(conn, call)[0]["allowed"]
    for role in ("anon", "authenticated", "authenticator"):
        conn.execute(f"CREATE ROLE {role}")
    try:
        for statement in setup.split(";\n"):
            if statement.strip():
                conn.execute(statement.encode())
        conn.execute("SET ROLE anon")
        conn.execute("SELECT holdfast.postgrest_rate_limit()")
    finally:
        conn.execute("RESET ROLE")
        for role in ("anon", "authenticated", "authenticator"):
            conn.execute(f"DROP OWNED BY {role}".encode())
            conn.execute(f"DROP ROLE {role}".encode())
