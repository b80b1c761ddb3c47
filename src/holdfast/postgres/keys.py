"""Statements about the API's keys. What is kept of a key is its id and the hash of its secret, never the key."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as people may see it. `last_used_at` is exact to a minute."""

    id: str
    name: str
    role: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class RingEntry:
    """A valid key as the API checks it; `valid_for` in seconds, None without an end. An empty id: keys are in use."""

    id: str
    name: str
    role: str
    secret_hash: str
    valid_for: float | None


def create_api_key(id: str, name: str, role: str, secret_hash: str, valid_for: float | None) -> Call[ApiKey]:
    """Keeps a key; no row when there are too many."""
    parameters = {
        "id": id,
        "name": name,
        "role": role,
        "secret_hash": secret_hash,
        "valid_for": None if valid_for is None else timedelta(seconds=valid_for),
    }
    return Call("create_api_key", statement("create_api_key"), parameters, ApiKey)


def list_api_keys(*, all: bool = False, limit: int = 1000) -> Call[ApiKey]:
    """The keys, newest first; with `all` also those that open nothing any more."""
    return Call("list_api_keys", statement("list_api_keys"), {"all": all, "limit": limit}, ApiKey)


def revoke_api_key(id: str) -> Call[ApiKey]:
    """Makes a key open nothing; no row when there is none of that id."""
    return Call("revoke_api_key", statement("revoke_api_key"), {"id": id}, ApiKey)


def key_ring() -> Call[RingEntry]:
    """All valid keys, and an entry without an id when anybody ever made one."""

    def entry(id: str, name: str, role: str, secret_hash: str, valid_for: object) -> RingEntry:
        return RingEntry(id, name, role, secret_hash, None if valid_for is None else float(str(valid_for)))

    return Call("key_ring", statement("key_ring"), {}, entry)


def note_api_key_use(ids: Sequence[str]) -> Call[str]:
    """Writes down that these keys were used just now."""
    return Call("note_api_key_use", statement("note_api_key_use"), {"ids": list(ids)}, str)
