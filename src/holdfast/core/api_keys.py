"""API keys: how one looks, and what is kept of it.

A key is `hf_<id>_<secret>`. The id is no secret: it names the key in lists and logs. The secret is 256 bits of chance,
and only its SHA-256 is kept, so nobody who reads the ledger can use a key.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "hf"
_TOKEN = re.compile(r"hf_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")


class Role(StrEnum):
    """Who a key speaks for. What each may do: core/access.py."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    OPERATOR = "operator"
    ADMIN = "admin"
    CANARY = "canary"


@dataclass(frozen=True)
class NewKey:
    """A key just made. `token` is shown once and kept nowhere."""

    id: str
    token: str
    secret_hash: str


def make_key(id_bits: bytes, secret_bits: bytes) -> NewKey:
    """A key from 5 and 32 random bytes.

    >>> make_key(bytes(5), bytes(32)).token
    'hf_aaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    if (len(id_bits), len(secret_bits)) != (5, 32):
        raise ValueError("a key is made of 5 and 32 random bytes")
    id = base64.b32encode(id_bits).decode().lower()
    secret = base64.urlsafe_b64encode(secret_bits).decode().rstrip("=")
    return NewKey(id, f"{PREFIX}_{id}_{secret}", hash_secret(secret))


def parse_key(token: str) -> tuple[str, str] | None:
    """Id and secret; None for what is no key of ours.

    >>> parse_key("hf_aaaaaaaa_" + "A" * 43)
    ('aaaaaaaa', 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')
    """
    found = _TOKEN.fullmatch(token)
    return (found[1], found[2]) if found else None


def hash_secret(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(secret: str, secret_hash: str) -> bool:
    """Whether this is the secret of that hash; takes as long whatever differs."""
    return hmac.compare_digest(hash_secret(secret), secret_hash)
