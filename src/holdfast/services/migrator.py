"""Which way gets through to the database that is to be migrated: tried in order, each within 5 s, each told.

    direct    the address in DATABASE_URL
    pooler    the Supabase project's session pooler, which has IPv4; its address is asked for over HTTPS
    api       Supabase's Management API: HTTPS alone
    https     PostgREST, which shows what is applied and applies nothing

By hand ("paste") is what is left where none does; that is the command's business, since it needs a person.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import SecretStr

from holdfast.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseRefused,
    DatabaseUnavailable,
    SchemaMismatch,
)
from holdfast.postgres.dsn import POOLER_SUFFIX, dsn_of, is_supabase_direct, parse
from holdfast.postgres.management import ADDRESS, ManagementApi
from holdfast.postgres.migrate import MigrationStatus, read_status
from holdfast.postgres.rest import RestRoute
from holdfast.postgres.routes import Connected, Route, StatementError

SESSION_PORT = 5432
_TOKEN = "set SUPABASE_ACCESS_TOKEN (a token of your account, sbp_...)"  # noqa: S105


class Via(StrEnum):
    """The ways, by the names that the command line has for them."""

    AUTO = "auto"
    DIRECT = "direct"
    POOLER = "pooler"
    API = "api"
    HTTPS = "https"
    PASTE = "paste"


@dataclass(frozen=True)
class Target:
    """The database to migrate, and what is known that may help to get there. `ref` is a Supabase project's id.

    `left_out`: the settings name a project besides, and `dsn` is the address of another database.
    """

    dsn: str | None
    ref: str | None = None
    token: SecretStr | None = None
    password: SecretStr | None = None
    api_address: str = ADDRESS
    https: str | None = None
    left_out: bool = False

    @property
    def is_supabase(self) -> bool:
        """Whether there is more than one way."""
        return self.ref is not None or self.https is not None

    def known_password(self) -> str | None:
        """The database's password."""
        if self.password is not None:
            return self.password.get_secret_value()
        return parse(self.dsn).get("password") if self.dsn else None


@dataclass(frozen=True)
class Attempt:
    """What came of one way. `worked` is None while it is being tried, or where it could not be."""

    route: str
    said: str
    worked: bool | None = None


class NoRouteError(DatabaseUnavailable):
    """No way got through; `attempts` say why."""

    def __init__(self, attempts: list[Attempt]) -> None:
        super().__init__(_no_route(attempts))
        self.attempts = attempts


@dataclass(frozen=True)
class Found:
    """A way that works, and what the database says over it."""

    route: Route
    statuses: list[MigrationStatus]


def find_route(
    target: Target, via: Via, *, told: Callable[[Attempt], None] = lambda _: None, waits: Callable[[str], None] = print
) -> Found:
    """The first way that gets through. Raises `NoRouteError`, or what the database itself has against it."""
    attempts: list[Attempt] = []

    def tell(attempt: Attempt) -> None:
        told(attempt)
        if attempt.worked is not None or not attempt.said.startswith("trying"):
            attempts.append(attempt)

    refused = False
    for name in (Via.DIRECT, Via.POOLER, Via.API, Via.HTTPS) if via is Via.AUTO else (via,):
        if name is Via.POOLER and refused:
            tell(Attempt(name, "not tried: it takes the same password, and a few wrong ones close it for a while"))
            continue
        try:
            route = _open(target, name, waits, tell)
        except _NotHereError as error:
            if via is not Via.AUTO:
                raise ConfigurationError(f"--via {via}: {error}") from None
            if name is Via.HTTPS:
                continue
            tell(Attempt(name, f"not tried: {error}"))
            continue
        except (DatabaseUnavailable, ConfigurationError) as error:
            if via is not Via.AUTO and isinstance(error, ConfigurationError):
                raise
            tell(Attempt(name, str(error), worked=False))
            continue
        try:
            statuses = read_status(route)
        except SchemaMismatch as error:
            route.close()
            if name is not Via.HTTPS:
                raise
            tell(Attempt(name, str(error), worked=False))
        except DatabaseUnavailable as error:
            route.close()
            refused = refused or (isinstance(error, DatabaseRefused) and name is Via.DIRECT)
            said = str(error) + _hint(target, name, error)
            if not target.is_supabase or (via is not Via.AUTO and isinstance(error, DatabaseRefused)):
                raise
            tell(Attempt(name, said, worked=False))
        except BaseException:
            route.close()
            raise
        else:
            tell(Attempt(name, _summary(route, statuses), worked=True))
            return Found(route, statuses)
    raise NoRouteError(attempts)


class _NotHereError(Exception):
    """A way that this place does not have; the text says what it would need."""


def _open(target: Target, name: Via, waits: Callable[[str], None], tell: Callable[[Attempt], None]) -> Route:
    match name:
        case Via.DIRECT:
            if target.dsn is None:
                raise _NotHereError("DATABASE_URL is not set")
            route: Route = Connected(target.dsn)
        case Via.POOLER:
            route = _pooler(target, tell)
        case Via.API:
            route = _api(target, waits)
        case Via.HTTPS:
            if target.https is None:
                raise _NotHereError("set SUPABASE_URL and SUPABASE_SERVICE_KEY")
            route = RestRoute(target.https)
        case _:
            raise ConfigurationError(f"{name} is no way to connect")
    tell(Attempt(name, f"trying {route.where}"))
    return route


def _api(target: Target, waits: Callable[[str], None]) -> ManagementApi:
    if target.ref is None:
        raise _NotHereError("no Supabase project is named (SUPABASE_URL, SUPABASE_PROJECT_REF)")
    if target.token is None:
        raise _NotHereError(_TOKEN)
    return ManagementApi(target.ref, target.token.get_secret_value(), address=target.api_address, said=waits)


def _pooler(target: Target, tell: Callable[[Attempt], None]) -> Connected:
    if target.dsn is not None and parse(target.dsn).get("host", "").endswith(POOLER_SUFFIX):
        raise _NotHereError("DATABASE_URL is the pooler's address already")
    password = target.known_password()
    if password is None:
        raise _NotHereError("set SUPABASE_DB_PASSWORD (the database's password)")
    api = _api(target, lambda _: None)
    tell(Attempt(Via.POOLER, f"trying to learn its address from {api.where}"))
    try:
        found = api.pooler()
    except StatementError as error:
        raise DatabaseUnavailable(f"{api.where}: {error}") from error
    finally:
        api.close()
    port = SESSION_PORT if found.host.endswith(POOLER_SUFFIX) else found.port
    dsn = dsn_of(host=found.host, port=port, user=found.user, dbname=found.database, password=password)
    return Connected(dsn, Via.POOLER)


def _summary(route: Route, statuses: list[MigrationStatus]) -> str:
    applied = sum(status.state == "applied" for status in statuses)
    return f"{route.where} answers: {applied} of {len(statuses)} migrations applied"


def _hint(target: Target, name: Via, error: DatabaseError) -> str:
    if name is Via.DIRECT and target.dsn and is_supabase_direct(target.dsn) and not isinstance(error, DatabaseRefused):
        return " (most projects have this address on IPv6 only)"
    return ""


def _no_route(attempts: list[Attempt]) -> str:
    if len(attempts) == 1:
        return attempts[0].said
    return "no way to the database got through:\n" + "\n".join(_lines(attempts))


def _lines(attempts: list[Attempt]) -> Iterator[str]:
    for attempt in attempts:
        yield f"  {attempt.route:<7} {attempt.said}"
