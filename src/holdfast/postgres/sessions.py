"""Statements about who is signed in to the dashboard. Of a secret only the hash travels here."""

from dataclasses import dataclass
from datetime import timedelta

from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session that is valid now, for `valid_for` seconds more."""

    id: str
    secret_hash: str
    role: str
    actor: str
    key_id: str | None
    valid_for: float


@dataclass(frozen=True, slots=True)
class Redeemed:
    """Whom a sign-in link was made for."""

    role: str
    actor: str
    key_id: str | None


def create_session(
    id: str, kind: str, secret_hash: str, *, role: str, actor: str, key_id: str | None, valid_for: float
) -> Call[str]:
    """Keep a session, or a link (`kind`) that begins one."""
    parameters = {
        "id": id,
        "kind": kind,
        "secret_hash": secret_hash,
        "role": role,
        "actor": actor,
        "key_id": key_id,
        "valid_for": timedelta(seconds=valid_for),
    }
    return Call("create_session", statement("create_session"), parameters, str)


def redeem_link(id: str, secret_hash: str) -> Call[Redeemed]:
    """Use up a sign-in link; no row where it opens nothing."""
    return Call("redeem_link", statement("redeem_link"), {"id": id, "secret_hash": secret_hash}, Redeemed)


def read_session(id: str) -> Call[SessionRow]:
    """A session that is valid now; no row where there is none."""
    return Call("read_session", statement("read_session"), {"id": id}, SessionRow)


def end_session(id: str) -> Call[str]:
    """Sign out; no row where that was done already."""
    return Call("end_session", statement("end_session"), {"id": id}, str)
