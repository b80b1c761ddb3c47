"""What a Supabase project is called, and which kind of key somebody has set: read from the strings alone."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError
from holdfast.postgres.dsn import supabase_project

_REF = re.compile(r"[a-z0-9]{6,40}")
_PROJECT_HOST = re.compile(r"([a-z0-9]+)\.supabase\.(?:co|in|red)")
DASHBOARD = "https://supabase.com/dashboard"


class KeyKind(StrEnum):
    """The kinds of key that a Supabase account and its projects have."""

    SECRET = "secret"  # noqa: S105
    PUBLISHABLE = "publishable"
    SERVICE_ROLE = "service_role"
    ANON = "anon"
    ACCESS_TOKEN = "access token"  # noqa: S105
    OTHER_JWT = "JWT of another role"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JwtClaims:
    """What a legacy key says of itself; its signature is the server's to check. `expires_at`: seconds since 1970."""

    role: str | None
    ref: str | None
    expires_at: float | None


def key_kind(key: str) -> KeyKind:
    """Which kind of key this is.

    >>> key_kind("sb_secret_abc").value, key_kind("sbp_0123").value, key_kind("hello").value
    ('secret', 'access token', 'unknown')
    """
    for prefix, kind in (
        ("sb_secret_", KeyKind.SECRET),
        ("sb_publishable_", KeyKind.PUBLISHABLE),
        ("sbp_", KeyKind.ACCESS_TOKEN),
    ):
        if key.startswith(prefix):
            return kind
    claims = jwt_claims(key)
    if claims is None:
        return KeyKind.UNKNOWN
    known = {"service_role": KeyKind.SERVICE_ROLE, "anon": KeyKind.ANON}
    return known.get(claims.role or "", KeyKind.OTHER_JWT)


def check_key(setting: str, key: str) -> None:
    """Raise `ConfigurationError` for what cannot travel in a header field: the client would tell it whole."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"{setting} holds a space, a line break or another character that no key has; copy the key anew"
        )


def jwt_claims(key: str) -> JwtClaims | None:
    """What a JWT claims; None where the text is none."""
    parts = key.split(".")
    if len(parts) != 3:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    until = found.get("exp")
    return JwtClaims(
        _text(found, "role"), _text(found, "ref"), float(until) if isinstance(until, int | float) else None
    )


def project_ref(*, given: str | None, url: str | None, dsn: str | None) -> str | None:
    """The project's reference: as told, else from its URL, else from its database's address; None: no such project.

    >>> project_ref(given=None, url="https://abcdefghijklmnopqrst.supabase.co", dsn=None)
    'abcdefghijklmnopqrst'
    """
    if given is not None:
        if _REF.fullmatch(given) is None:
            raise ConfigurationError(
                f"SUPABASE_PROJECT_REF is {given!r}; it is the project's id as in {DASHBOARD}/project/ID: small letters"
                " and digits, no address"
            )
        return given
    found = _PROJECT_HOST.fullmatch(urlsplit(url).hostname or "") if url else None
    if found:
        return found[1]
    return supabase_project(dsn) if dsn else None


def check_one_project(*, given: str | None, url: str | None, dsn: str | None) -> None:
    """Raise `ConfigurationError` where settings name different projects: another's database must not be changed."""
    named = {
        "SUPABASE_PROJECT_REF": given,
        "SUPABASE_URL": project_ref(given=None, url=url, dsn=None),
        "DATABASE_URL": project_ref(given=None, url=None, dsn=dsn),
    }
    if len(set(named.values()) - {None}) > 1:
        said = ", ".join(f"{setting} names {ref}" for setting, ref in named.items() if ref)
        raise ConfigurationError(f"the settings name different Supabase projects: {said}; set all to one project")


def editor(ref: str) -> str:
    """The address of a project's SQL editor."""
    return f"{DASHBOARD}/project/{ref}/sql/new"


def _text(found: dict[str, object], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None
