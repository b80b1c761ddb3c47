"""How `holdfast migrate` reaches its database: the ways tried, each told; and by hand where none is left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import typer
from rich.text import Text

from holdfast.cli import by_hand
from holdfast.cli.output import show
from holdfast.cli.pasting import Pasting
from holdfast.config import Settings
from holdfast.errors import ConfigurationError, DatabaseUnavailable
from holdfast.postgres.dsn import is_of_supabase
from holdfast.postgres.embedded import EmbeddedPostgres
from holdfast.postgres.migrate import MigrationStatus, read_status
from holdfast.postgres.routes import Connected, Route
from holdfast.postgres.supabase import check_one_project, project_ref
from holdfast.services.migrator import Attempt, Target, Via, find_route

Way = Annotated[
    Via,
    typer.Option(
        "--via",
        help="The way to the database: direct (DATABASE_URL), pooler (Supabase's, over IPv4), api (Supabase's"
        " Management API, HTTPS alone), https (PostgREST, which shows what is applied and applies nothing), paste (by"
        " hand); auto tries them in this order.",
    ),
]


#: The ways that lead to a Supabase project, whatever other database DATABASE_URL names.
OF_A_PROJECT = (Via.POOLER, Via.API, Via.HTTPS)


class Reached(NamedTuple):
    """A way, what the database says over it, what it is called, and what was tried before."""

    route: Route
    statuses: list[MigrationStatus]
    where: str
    tried: list[dict[str, Any]]


@contextmanager
def reached(
    settings: Settings, via: Via, *, as_json: bool, wait: float | None = None, dry_run: bool = False
) -> Iterator[Reached]:
    """The database at whatever level it is. Where nothing is named it is the local server, started for it.

    `wait`: whoever wants to migrate may do so by hand, and has so many seconds for it.
    """
    target = target_of(settings, via)
    if target.dsn is None and target.ref is None and (target.https is None or settings.data_dir is not None):
        if via not in (Via.AUTO, Via.DIRECT):
            raise ConfigurationError(f"--via {via}: no Supabase project is named; set SUPABASE_URL, or DATABASE_URL")
        with _local(settings) as (route, where):
            yield Reached(route, read_status(route), where, [])
        return
    tried: list[Attempt] = []
    if via is Via.PASTE and wait is not None and not dry_run:
        Pasting(target, wait).run()
        raise typer.Exit
    if via is Via.PASTE:
        via = Via.AUTO  # To look needs no hand.
    tell = _teller(target, via, tried, as_json=as_json)
    try:
        found = find_route(target, via, told=tell, waits=saying(as_json=as_json))
    except DatabaseUnavailable as error:
        if wait is None or dry_run or via is not Via.AUTO:
            raise
        raise by_hand.unreachable(error, target) from error
    try:
        yield Reached(found.route, found.statuses, found.route.where, [vars(attempt) for attempt in tried])
    finally:
        found.route.close()


def only_shown(settings: Settings, where: str) -> DatabaseUnavailable:
    """Files are pending, and the one way that is open shows them and applies none."""
    error = DatabaseUnavailable(f"{where} shows that migrations are pending, and cannot apply them")
    return by_hand.unreachable(error, target_of(settings))


def target_of(settings: Settings, via: Via = Via.AUTO) -> Target:
    """The database that the settings name, with every way to it.

    What DATABASE_URL names is never replaced by another database, whatever project stands beside it (decision 0021).
    """
    dsn = settings.database_url.get_secret_value() if settings.database_url is not None else None
    if dsn is not None and not is_of_supabase(dsn) and via in OF_A_PROJECT:
        return target_of(settings.model_copy(update={"database_url": None}))
    ref = project_ref(given=settings.supabase_project_ref, url=settings.supabase_url, dsn=dsn)
    check_one_project(given=settings.supabase_project_ref, url=settings.supabase_url, dsn=dsn)
    is_apart = settings.is_database_apart
    return Target(
        dsn,
        None if is_apart else ref,
        settings.supabase_access_token,
        settings.supabase_db_password,
        settings.supabase_api_url,
        settings.https_ledger,
        left_out=is_apart and (ref or settings.supabase_url) is not None,
    )


def saying(*, as_json: bool) -> Callable[[str], None]:
    """Where people hear why it takes longer: not on the stream that a program reads."""
    return lambda text: print(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def _teller(target: Target, via: Via, tried: list[Attempt], *, as_json: bool) -> Callable[[Attempt], None]:
    # A database with one way to it is not worth the words, unless that way fails.
    quiet = as_json or not target.is_supabase or via is not Via.AUTO

    def tell(attempt: Attempt) -> None:
        if attempt.worked is not None or not attempt.said.startswith("trying"):
            tried.append(attempt)
        if not quiet:
            style = {True: "green", False: "red", None: "dim"}[attempt.worked]
            show(Text.assemble((f"{attempt.route:<8}", style), attempt.said))

    return tell


@contextmanager
def _local(settings: Settings) -> Iterator[tuple[Connected, str]]:
    server = EmbeddedPostgres(settings.data_dir)
    route = Connected(server.start())
    try:
        yield route, f"local Postgres in {server.data_dir}"
    finally:
        route.close()
        server.stop()
