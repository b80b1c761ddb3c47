"""Options that several commands share, and what they mean."""

import contextlib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.config import ENV_FILE, SECRETS, TOML_FILE, Settings, load_settings, settings_fingerprint
from holdfast.errors import ConfigurationError
from holdfast.postgres.database import Database, resolve_database
from holdfast.postgres.ledger import SyncLedger
from holdfast.services.dlq_queues import Sources
from holdfast.services.restarts import Here
from holdfast.services.sqs_watch import WatchedQueue

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        show_default=False,
        help="The ledger's Postgres; better set DATABASE_URL, which ps does not show.",
    ),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", show_default=False, help="Where the local Postgres keeps its data.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]


def setting(name: str, metavar: str | None = None) -> Any:
    """A command-line option for one of the settings, described as there."""
    field = Settings.model_fields[name]
    default = f"{field.default:g}" if isinstance(field.default, float) else field.default
    known = f" [default: {default}]" if default not in {None, ()} else ""
    return typer.Option(metavar=metavar, show_default=False, help=f"{field.description}{known}")


def read_settings(database_url: str | None, data_dir: Path | None, **given: Any) -> Settings:
    """All settings, those of the command line first: a `--data-dir` asks for the local server."""
    if database_url and data_dir is not None:
        raise ConfigurationError(
            "--database-url names a server and --data-dir the local one's folder; give one of them"
        )
    settings = load_settings(database_url=database_url or None, data_dir=data_dir, **given)
    return settings if data_dir is None else settings.model_copy(update={"database_url": None})


def open_database(settings: Settings) -> Database:
    """The ledger's database, at the schema level of this Holdfast. To be released."""
    url = settings.database_url
    return resolve_database(
        None if url is None else url.get_secret_value(), data_dir=settings.data_dir, https=settings.https_ledger
    )


def here() -> Here:
    """This place, to compare running services with."""
    folder = Path.cwd()
    written = [(folder / name).stat().st_mtime for name in (ENV_FILE, TOML_FILE) if (folder / name).exists()]
    return Here(
        socket.gethostname(),
        str(folder),
        version("holdfast"),
        settings_fingerprint(folder),
        datetime.fromtimestamp(max(written), UTC) if written else None,
    )


def sqs_queues(settings: Settings) -> list[WatchedQueue]:
    """The queues of SQS that matter here, and what each is."""
    # The team's own queue with the tag for bells is both: what is sent to it is what people must know.
    roles: dict[str | None, str] = {settings.watched_queue_url: "watched"}
    roles |= dict.fromkeys(settings.bell_routes().urls(), "bells")
    roles |= dict.fromkeys(settings.dlq_urls, "dead letters")
    return [WatchedQueue(url, role) for url, role in roles.items() if url]


def dlq_sources(settings: Settings) -> Sources:
    """Where dead-letter queues are looked for."""
    sources = [*settings.bell_routes().urls(), *filter(None, [settings.watched_queue_url])]
    return Sources(settings.dlq_urls, tuple(dict.fromkeys(sources)), settings.dlq_capture, settings.dlq_identity)


def told(settings: Settings) -> str:
    """The settings as one process tells them to another, without the secrets: those it needs travel by themselves."""
    return settings.model_copy(update=dict.fromkeys(SECRETS)).model_dump_json()


@contextlib.contextmanager
def open_ledger(database_url: str | None, data_dir: Path | None) -> Iterator[SyncLedger]:
    """The ledger for one command."""
    database = open_database(read_settings(database_url, data_dir))
    ledger = SyncLedger(database.dsn, name="holdfast cli")
    try:
        yield ledger
    finally:
        ledger.close()
        database.release()
