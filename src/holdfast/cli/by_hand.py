"""When no connection gets through: the migrations as one text for an SQL editor, and where to paste it."""

from pathlib import Path

from holdfast.errors import DatabaseUnavailable
from holdfast.postgres.dsn import is_supabase_direct, supabase_project
from holdfast.postgres.migrate import load

MARK = "-- Holdfast: all migrations"
_HEADER = """ as one text, to paste into an SQL editor as it is. Those that are applied already do
-- nothing. To see afterwards what is applied: holdfast migrate status, or
-- SELECT version, name, applied_at FROM holdfast.schema_migrations ORDER BY version;
"""
FILE = Path("holdfast-migrations.sql")


def everything() -> str:
    """All migrations as one text. What is on record already does nothing, so nobody has to know what is pending."""
    return MARK + _HEADER + "".join(migration.text for migration in load())


def write(path: Path) -> Path:
    """Write them to a file; one that is not ours is left alone, and the next free name is taken."""
    for number in range(1, 100):
        candidate = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not candidate.exists() or _is_ours(candidate):
            candidate.write_text(everything(), encoding="utf-8")
            return candidate
    raise FileExistsError(f"{path} and 98 names like it are taken")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()


def unreachable(error: DatabaseUnavailable, dsn: str, path: Path = FILE) -> DatabaseUnavailable:
    """The error for somebody who must migrate and cannot connect: why, and the way that is left."""
    return type(error)("\n".join([str(error), *_advice(dsn), *_by_hand(dsn, path)]))


def _advice(dsn: str) -> list[str]:
    if not is_supabase_direct(dsn):
        return []
    return [
        "This is the project's direct address, which most projects have on IPv6 only. Over IPv4 take the session",
        "pooler's address (port 5432) from the page Connect of the project's dashboard as DATABASE_URL.",
    ]


def _by_hand(dsn: str, path: Path) -> list[str]:
    try:
        written = str(write(path))
    except OSError as error:
        return [f"To migrate by hand: holdfast migrate print > FILE ({path} cannot be written: {error.strerror})."]
    project = supabase_project(dsn)
    editor = f"https://supabase.com/dashboard/project/{project}/sql/new" if project else "your SQL editor, or psql"
    return [
        f"To migrate by hand, paste the whole of {written} into {editor}",
        "and run it: it records itself, so `holdfast migrate status` knows of it afterwards.",
    ]
