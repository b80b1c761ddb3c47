"""What a connection string says about the route: is there a pooler in between, what may be shown of it."""

from psycopg import conninfo

from holdfast.errors import ConfigurationError

POOLER_PORT = "6543"
POOLER_SUFFIX = ".pooler.supabase.com"


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
    return parts


def is_pooled(dsn: str) -> bool:
    """Whether a transaction pooler may stand in between: no prepared statements, no LISTEN, no session state."""
    parts = parse(dsn)
    return parts.get("port") == POOLER_PORT or parts.get("host", "").endswith(POOLER_SUFFIX)


def shown(dsn: str) -> str:
    """The connection string as it may be shown to people: never with its password."""
    parts = parse(dsn)
    where = parts.get("host") or parts.get("hostaddr") or "localhost"
    port = parts.get("port", "5432")
    name = parts.get("dbname") or parts.get("user") or ""
    return f"database {name!r} at {where}" if where.startswith("/") else f"database {name!r} at {where}:{port}"
