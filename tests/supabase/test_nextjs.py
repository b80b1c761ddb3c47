"""examples/nextjs: type-checked, compiled, and its routes asked over a real PostgREST."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from holdfast.postgres.ledger import SyncLedger
from holdfast.postgres.reads import list_jobs
from tests.supabase.project import PUBLISHABLE_KEY, SECRET_KEY, Gateway, Project
from tests.support import Session

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "nextjs"


def tsc(*args: str) -> None:
    program = ROOT / ".tools" / "node_modules" / "typescript" / "bin" / "tsc"
    assert program.exists(), "TypeScript is missing: run scripts/install-system-packages"
    done = subprocess.run(
        ["node", str(program), *args], capture_output=True, text=True, timeout=90, check=False, cwd=EXAMPLE
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's JavaScript: it is in strict TypeScript, and says so without an error."""
    tsc("--project", ".")
    folder = tmp_path_factory.mktemp("nextjs")
    tsc("--project", ".", "--noEmit", "false", "--module", "commonjs", "--moduleResolution", "node10",
        "--outDir", str(folder))  # fmt: skip
    return folder


@contextmanager
def serving(folder: Path, url: str, key: str = SECRET_KEY) -> Iterator[httpx.Client]:
    environment = {**os.environ, "SUPABASE_URL": url, "SUPABASE_SERVICE_KEY": key}
    process = subprocess.Popen(
        ["node", str(Path(__file__).with_name("routes.cjs")), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client
    finally:
        process.kill()
        process.wait(10)


def order(client: httpx.Client, caller: str) -> httpx.Response:
    return client.post(
        "/api/reports", json={"to": "ada@example.org"}, headers={"X-Forwarded-For": f"6.6.6.6, {caller}"}
    )


def test_the_sixth_request_of_a_caller_is_answered_with_429_and_jobs_are_written(
    project: Project, compiled: Path
) -> None:
    with serving(compiled, project.url) as client:
        answers = [order(client, "192.0.2.1") for _ in range(6)]
        other = order(client, "192.0.2.2")
    assert [each.status_code for each in answers] == [202] * 5 + [429]
    assert other.status_code == 202
    assert [each.headers["RateLimit"].split(";")[1] for each in answers] == ["r=4", "r=3", "r=2", "r=1", "r=0", "r=0"]
    refused = answers[-1]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["type"].endswith("#quota-exceeded")
    ledger = SyncLedger(project.address())
    try:
        jobs = ledger.call(list_jobs(queue="reports"))
    finally:
        ledger.close()
    assert {str(each.id) for each in jobs} == {each.json()["id"] for each in [*answers[:5], other]}
    assert {each.kind for each in jobs} == {"send_report"}


def test_python_and_typescript_share_one_count(project: Project, compiled: Path, conn: Session) -> None:
    for _ in range(3):
        conn.execute("SELECT holdfast.check_rate_limit('192.0.2.3', 5, 60, policy => 'reports')")
    with serving(compiled, project.url) as client:
        assert [order(client, "192.0.2.3").status_code for _ in range(3)] == [202, 202, 429]


def test_health_is_the_ledger_s_and_tells_strangers_the_status_only(
    project: Project, compiled: Path, conn: Session
) -> None:
    with serving(compiled, project.url) as client:
        well = client.get("/api/health")
        assert (well.status_code, well.json()) == (200, {"status": "pass"})
        conn.execute(
            "INSERT INTO holdfast.watches (name, table_name, action, stale_after, every, looked_at, stale)"
            " VALUES ('jobs', 'jobs', 'alert', '10 min', '5 s', now(), 2)"
        )
        assert client.get("/api/health").json() == {"status": "warn"}
        conn.execute("UPDATE holdfast.watches SET problem = 'there is no table jobs'")
        ill = client.get("/api/health")
        assert (ill.status_code, ill.json()) == (503, {"status": "fail"})
        assert ill.headers["Cache-Control"] == "no-store"


def test_what_a_framework_passes_reaches_the_handler_and_a_limit_that_is_not_kept_is_logged(compiled: Path) -> None:
    program = """
    const { rateLimited } = require(process.argv[1] + "/lib/holdfast.js");
    const route = rateLimited({ limit: 1, policy: "p" }, async (_, { params }) => Response.json(await params));
    (async () => {
      for (let i = 0; i < 2; i++) {
        const answer = await route(new Request("http://here"), { params: Promise.resolve({ id: "7" }) });
        console.log(await answer.text());
      }
    })();
    """
    environment = {
        "PATH": os.environ["PATH"],
        "SUPABASE_URL": "http://127.0.0.1:9",
        "SUPABASE_SERVICE_KEY": "sb_secret_x",
    }
    done = subprocess.run(
        ["node", "-e", program, str(compiled)], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stdout.splitlines() == ['{"id":"7"}'] * 2
    assert done.stderr.splitlines() == ["rate limit p: the ledger did not answer check_rate_limit: TypeError"]


def test_while_the_ledger_is_away_requests_are_admitted_and_health_fails(compiled: Path, project: Project) -> None:
    def away(handler: Gateway) -> None:
        handler.send(503, {"message": "no"})

    with serving(compiled, project.url) as client:
        project.misbehave.append(away)
        assert order(client, "192.0.2.4").status_code == 202
        project.misbehave.append(away)
        assert client.get("/api/health").status_code == 503
    with serving(compiled, project.url, PUBLISHABLE_KEY) as client:
        assert client.get("/api/health").json() == {"status": "fail"}, "that key may not ask"
