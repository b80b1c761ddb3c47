"""Supabase projects for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from holdfast.postgres.migrate import migrate_up
from tests.supabase.project import STRICT, Project, gateway, postgrest, supabase_database
from tests.support import Session


@pytest.fixture
def project_database(bare: str) -> Iterator[str]:
    """The DSN of a new project's database, empty."""
    with supabase_database(bare, STRICT) as dsn:
        yield dsn


@pytest.fixture
def project(project_database: str, tmp_path: Path) -> Iterator[Project]:
    """A migrated project with a real PostgREST; it is reached over HTTP alone."""
    migrate_up(project_database)
    with postgrest(project_database, tmp_path) as behind, gateway(project_database, behind) as running:
        yield running


@pytest.fixture
def conn(project: Project) -> Iterator[Session]:
    """A session of the project's owner, to look behind what HTTP says."""
    with psycopg.connect(project.dsn, autocommit=True, row_factory=dict_row) as session:
        yield session
