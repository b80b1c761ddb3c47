"""What a connection string says about the route: is there a pooler in between, what may be shown of it."""

import re

from psycopg import conninfo

from holdfast.errors import ConfigurationError

POOLER_PORT = "6543"
POOLER_SUFFIX = ".pooler.supabase.com"
#: Addresses (host, port) at which this process has met a pooler.
_found_pooled: set[tuple[str, str]] = set()
_DIRECT_HOST = re.compile(r"db\.([a-z0-9]+)\.supabase\.co")
_POOLER_USER = re.compile(r"[^.]+\.([a-z0-9]+)")


def is_rest(dsn: str) -> bool:
    """Whether this is no connection string but the address of a ledger over HTTPS (see `rest.py`).

    >>> is_rest("https://:key@abcdef.supabase.co"), is_rest("postgresql:///app")
    (True, False)
    """
    return dsn.startswith(("https://", "http://"))


def parse(dsn: str) -> dict[str, str]:
    """The parts of a connection string (libpq's keywords); `ConfigurationError` when it is not one."""
    try:
        parts = {key: str(value) for key, value in conninfo.conninfo_to_dict(dsn).items() if value is not None}
    except Exception:
        # The driver's own words repeat the string, and with it the password.
        raise ConfigurationError(
            "DATABASE_URL is not a Postgres connection string; "
            "it looks like postgresql://user:password@host:5432/database"
        ) from None
    ports = parts.get("port", "").replace(",", "")
    if "@" in parts.get("host", "") + parts.get("dbname", "") or (ports and not ports.isdigit()):
        raise ConfigurationError(
            "DATABASE_URL cannot be read: its password seems to hold one of @ : / # ?; "
            "percent-encode it (@ is %40, / is %2F)"
        )
    wrong = next((each for each in parts.get("port", "").split(",") if each and not 1 <= int(each) <= 65535), None)
    if wrong is not None:
        raise ConfigurationError(f"DATABASE_URL names port {wrong:.20}; a port lies between 1 and 65535")
    return parts


def dsn_of(**parts: str | int) -> str:
    """A connection string of its parts (libpq's keywords).

    >>> dsn_of(host="db.example.org", dbname="app")
    'host=db.example.org dbname=app'
    """
    return conninfo.make_conninfo("", **parts)


def is_pooled(dsn: str) -> bool:
    """Whether a transaction pooler may stand in between: no prepared statements, no LISTEN, no session state."""
    if is_rest(dsn):
        return True
    parts = parse(dsn)
    if parts.get("port") == POOLER_PORT or parts.get("host", "").endswith(POOLER_SUFFIX):
        return True
    return _place(parts) in _found_pooled


def note_pooled(dsn: str) -> None:
    """A connection has shown that a pooler stands at this address, whatever its port says (see `connection.py`)."""
    _found_pooled.add(_place(parse(dsn)))


def _place(parts: dict[str, str]) -> tuple[str, str]:
    return parts.get("host") or parts.get("hostaddr") or "", parts.get("port", "5432")


def is_local(dsn: str) -> bool:
    """Whether every host it names is this machine: a socket, or loopback.

    >>> is_local("postgresql:///app"), is_local("postgresql://db.example.org/app")
    (True, False)
    """
    if is_rest(dsn):
        return False
    parts = parse(dsn)
    hosts = (parts.get("hostaddr") or parts.get("host") or "").split(",")
    return all(not host or host.startswith(("/", "@")) or host in ("localhost", "127.0.0.1", "::1") for host in hosts)


def is_supabase_direct(dsn: str) -> bool:
    """Whether it names a Supabase project's own host, which most projects have on IPv6 only."""
    return _DIRECT_HOST.fullmatch(parse(dsn).get("host", "")) is not None


def supabase_project(dsn: str) -> str | None:
    """The Supabase project that a connection string leads to, directly or over the shared pooler.

    >>> supabase_project("postgresql://postgres@db.abcdef.supabase.co/postgres")
    'abcdef'
    """
    parts = parse(dsn)
    host = parts.get("host", "")
    if host.endswith(POOLER_SUFFIX):
        found = _POOLER_USER.fullmatch(parts.get("user", ""))
    else:
        found = _DIRECT_HOST.fullmatch(host)
    return found[1] if found else None


def is_of_supabase(dsn: str) -> bool:
    """Whether it names a host of Supabase's: a project's own, or a shared pooler.

    >>> is_of_supabase("postgresql://postgres@db.abcdef.supabase.co/postgres"), is_of_supabase("postgresql:///app")
    (True, False)
    """
    return is_supabase_direct(dsn) or parse(dsn).get("host", "").endswith(POOLER_SUFFIX)


def shown(dsn: str) -> str:
    """The connection string as it may be shown to people: never with its password.

    >>> shown("postgresql://app:secret@db-a,db-b:5433/jobs?target_session_attrs=read-write")
    "database 'jobs' at db-a:5432,db-b:5433"
    """
    if is_rest(dsn):
        return f"{dsn.partition('@')[2]} over HTTPS"
    parts = parse(dsn)
    hosts = (parts.get("host") or parts.get("hostaddr") or "localhost").split(",")
    ports = parts.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    places = [
        host if host.startswith("/") else f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=False)
    ]
    return f"database {parts.get('dbname') or parts.get('user') or ''!r} at {','.join(places)}"
