"""The API for the tests of its routes."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import migrate_up
from tests.web.support import Api, api_over


@pytest.fixture
async def api(database: str) -> AsyncIterator[Api]:
    """The API over this test's database, called from this machine."""
    async with api_over(database) as made:
        yield made


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A Postgres that only the tests of this file have, to stop it as they like; migrated."""
    base = Path(tempfile.mkdtemp(prefix="holdfast-web-", dir="/tmp"))
    base.chmod(0o755)
    try:
        with EmbeddedPostgres(base / "data", settings={"fsync": "off"}) as server:
            migrate_up(server.dsn)
            yield server
    finally:
        shutil.rmtree(base, ignore_errors=True)
