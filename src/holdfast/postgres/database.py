"""Which Postgres is the ledger's: the one that is named, else the local one, started when it does not run."""

import logging
from pathlib import Path

from holdfast.errors import DatabaseRefused, DatabaseUnavailable, MigrationError, SchemaMismatch
from holdfast.postgres.dsn import parse, shown
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import check_schema, migrate_up

_log = logging.getLogger("holdfast")


class Database:
    """A ledger's address. A local server lives as long as somebody uses it: `release` when done."""

    def __init__(self, dsn: str, server: EmbeddedPostgres | None = None) -> None:
        self.dsn = dsn
        self.server = server

    @property
    def is_local(self) -> bool:
        """Whether it is our own local server."""
        return self.server is not None

    def describe(self) -> str:
        """For people: never with a password."""
        return f"local Postgres in {self.server.data_dir}" if self.server is not None else shown(self.dsn)

    def release(self) -> None:
        """Let go of it; the last user of a local server stops it."""
        if self.server is not None:
            self.server.stop()


def resolve_database(url: str | None, *, data_dir: Path | None = None, https: str | None = None) -> Database:
    """The database that `url` names, at the schema level of this Holdfast; without one the local server, migrated.

    https: the ledger's address over HTTPS, for where `url` does not get through or is not given.
    Raises `ConfigurationError`, `DatabaseUnavailable`, `DatabaseTooOld`, `SchemaMismatch`, `EmbeddedPostgresError`.
    """
    if url is not None:
        parse(url)
        try:
            check_schema(url)
        except DatabaseUnavailable as error:
            if https is None or isinstance(error, DatabaseRefused):
                raise
            _log.warning("%s; the ledger is reached over HTTPS instead, at %s", error, shown(https))
        else:
            return Database(url)
    if https is not None and (url is not None or data_dir is None):
        check_schema(https)
        return Database(https)
    server = EmbeddedPostgres(data_dir)
    dsn = server.start()
    try:
        migrate_up(dsn)
    except (MigrationError, SchemaMismatch) as error:
        server.stop()
        raise type(error)(f"{error}; this is the local server: without {server.data_dir} it starts anew") from error
    except BaseException:
        server.stop()
        raise
    return Database(dsn, server)
