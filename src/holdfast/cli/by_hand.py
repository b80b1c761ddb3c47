"""When no connection gets through: the migrations as one text for an SQL editor, and where to paste it."""

import sys
from pathlib import Path

from holdfast.cli import clipboard
from holdfast.errors import DatabaseRefused, DatabaseUnavailable
from holdfast.postgres.migrate import load
from holdfast.postgres.supabase import editor
from holdfast.services.migrator import Target

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


def unreachable(error: DatabaseUnavailable, target: Target, path: Path = FILE) -> DatabaseUnavailable:
    """The error for somebody who must migrate and cannot connect: why, and the way that is left."""
    kind = DatabaseRefused if isinstance(error, DatabaseRefused) else DatabaseUnavailable
    return kind("\n".join([str(error), *_advice(target), *_by_hand(target, path)]))


def _advice(target: Target) -> list[str]:
    if target.left_out:
        return [
            "The Supabase project of the settings was not tried: DATABASE_URL is the address of another database.",
            "If the project is meant: holdfast migrate up --via api (or pooler), or take DATABASE_URL away.",
        ]
    if target.ref is None or target.token is not None:
        return []
    return [
        "With SUPABASE_ACCESS_TOKEN set (a token of your account, sbp_...) it goes over HTTPS alone, port 443; or take",
        "the session pooler's address (port 5432) from the page Connect of the project's dashboard as DATABASE_URL.",
    ]


def _by_hand(target: Target, path: Path) -> list[str]:
    try:
        written = str(write(path))
    except OSError as error:
        return [f"To migrate by hand: holdfast migrate print > FILE ({path} cannot be written: {error.strerror})."]
    if sys.stdout.isatty() and clipboard.copy(everything()):
        written += ", which is on the clipboard too,"
    return [
        f"To migrate by hand, paste the whole of {written} into {address(target)}",
        "and run it: it records itself, so `holdfast migrate status` knows of it afterwards.",
    ]


def address(target: Target) -> str:
    """Where SQL is pasted."""
    return editor(target.ref) if target.ref else "your SQL editor, or psql"
