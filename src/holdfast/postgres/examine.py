"""What an examination asks of a database, and how it repairs what it found."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.postgres.calls import Call
from holdfast.postgres.connection import connect_sync, translated
from holdfast.postgres.statements import statement


@dataclass(frozen=True)
class ServerFacts:
    """The server, and this connection to it."""

    clock: datetime
    version: int
    max_connections: int
    connections: int
    is_encrypted: bool | None
    is_standby: bool
    role: str


@dataclass(frozen=True)
class RowSecurity:
    """A table that shows this role nothing (`hidden`), or a role of strangers that may look in (`exposed`)."""

    what: str
    name: str


@dataclass(frozen=True)
class Silence:
    """How long the quietest live worker has been silent, in seconds, and as a share of what it may be."""

    share: float | None
    seconds: float | None


@dataclass(frozen=True)
class Notice:
    """Somebody who is told of a death; `delivered_at` is None until that is done."""

    channel: str
    delivered_at: datetime | None
    error: str | None


def server_facts() -> Call[ServerFacts]:
    """The server, and this connection to it."""
    return Call("server_facts", statement("server_facts"), {}, ServerFacts)


def missing_grants() -> Call[str]:
    """Statements that would grant this role what it lacks."""
    return Call("missing_grants", statement("missing_grants"), {}, str)


def row_security() -> Call[RowSecurity]:
    """Where row-level security hides or shows too much."""
    return Call("row_security", statement("row_security"), {}, RowSecurity)


def longest_silence() -> Call[Silence]:
    """How long the quietest live worker has been silent."""
    return Call("longest_silence", statement("longest_silence"), {}, Silence)


def notices_of_death(job_id: UUID) -> Call[Notice]:
    """Who was told that this job went dead."""
    return Call("notices_of_death", statement("notices_of_death"), {"job_id": str(job_id)}, Notice)


def forget_canary(id: UUID) -> Call[UUID]:
    """Delete a canary that died as it was meant to."""
    return Call("forget_canary", statement("forget_canary"), {"id": id}, lambda found: found)


def repair(dsn: str, text: str) -> None:
    """Run one statement that an examination named as the way out. Raises what the server says, in our errors."""
    connection = connect_sync(dsn, application_name="holdfast doctor", statement_timeout=60.0)
    try:
        with translated(dsn):
            connection.execute(text.encode())
    finally:
        connection.close()
