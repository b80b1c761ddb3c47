"""The migrations as files of other tools: the same bytes, in the form and under the names that the tool wants."""

import json
import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from holdfast.postgres.migrate import Migration


class Format(StrEnum):
    """What the files are for."""

    SUPABASE = "supabase"
    PSQL = "psql"
    ALEMBIC = "alembic"


FOLDERS = {
    Format.SUPABASE: "supabase/migrations",
    Format.PSQL: "holdfast-migrations",
    Format.ALEMBIC: "alembic/versions",
}

_ALEMBIC = '''\
"""Holdfast: {name}

The SQL is run as it is, without a look for parameters: it is one statement, and does nothing where it is on record.
"""

from alembic import op

revision = "holdfast_{number}"
down_revision = {before}
branch_labels = {branch}
depends_on = None

SQL = r"""{text}"""


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(SQL)


def downgrade() -> None:
    raise NotImplementedError("Holdfast's migrations go forward only; to remove it: DROP SCHEMA holdfast CASCADE")
'''


def export(form: Format, migrations: list[Migration], folder: Path, now: datetime) -> list[Path]:
    """Write what is not there yet; the paths written. What is there already keeps its name, and is written no more.

    Supabase's tools order files by the time in their names, so new ones are named for now, after those applied before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name_of = _NAMES[form]
    written = []
    for position, migration in enumerate(migrations):
        pattern, name = name_of(migration, now.astimezone(UTC) + timedelta(seconds=position))
        if any(folder.glob(pattern)):
            continue
        path = folder / name
        path.write_text(_content(form, migration, migrations), encoding="utf-8")
        written.append(path)
    return written


_NAMES: dict[Format, Callable[[Migration, datetime], tuple[str, str]]] = {
    Format.SUPABASE: lambda migration, at: (f"*_holdfast_{migration.name}.sql", _supabase_name(migration, at)),
    Format.PSQL: lambda migration, _: (f"{migration.name}.sql", f"{migration.name}.sql"),
    Format.ALEMBIC: lambda migration, _: (f"holdfast_{migration.name}.py", f"holdfast_{migration.name}.py"),
}


def _supabase_name(migration: Migration, at: datetime) -> str:
    return f"{at:%Y%m%d%H%M%S}_holdfast_{migration.name}.sql"


def _content(form: Format, migration: Migration, migrations: list[Migration]) -> str:
    if form is not Format.ALEMBIC:
        return migration.text
    place = [each.version for each in migrations].index(migration.version)
    first = place == 0
    before = "None" if first else json.dumps(f"holdfast_{migrations[place - 1].version:03}")
    return _ALEMBIC.format(
        name=migration.name,
        number=f"{migration.version:03}",
        before=before,
        branch='("holdfast",)' if first else "None",
        text=migration.text,
    )


def how_to_run(form: Format, folder: Path) -> str:
    """What is typed next."""
    match form:
        case Format.SUPABASE:
            return "apply them with: supabase db push (older than yours: add --include-all)"
        case Format.PSQL:
            return f"apply them with: {_loop(folder, is_windows=os.name == 'nt')}"
        case Format.ALEMBIC:
            return "apply them with: alembic upgrade holdfast@head"


def _loop(folder: Path, *, is_windows: bool) -> str:
    """For PowerShell, or a Unix shell; the first file that fails is the last."""
    if is_windows:
        psql = "psql -v ON_ERROR_STOP=1 -f $file.FullName $env:DATABASE_URL"
        return f"foreach ($file in Get-ChildItem '{folder}\\*.sql') {{ {psql}; if ($LASTEXITCODE) {{ break }} }}"
    psql = 'psql -v ON_ERROR_STOP=1 -f "$file" "$DATABASE_URL"'
    return f"for file in {shlex.quote(str(folder))}/*.sql; do {psql} || break; done"
