"""Whom a verified token names (JSON Web Token, RFC 7519), as an identity for rate limits."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.errors import ConfigurationError
from holdfast.web.asgi import Scope

if TYPE_CHECKING:
    import jwt

#: Longer tokens are not taken apart.
LONGEST = 16_384


def jwt_subject(
    key: str | Mapping[str, Any],
    *,
    algorithms: Collection[str],
    audience: str | None = None,
    issuer: str | None = None,
    leeway: float = 0.0,
) -> Callable[[Scope], str | None]:
    """An `authenticate` for `Identify`: `user:SUBJECT` of a bearer token that proves it, else None (then the address).

    A token counts if its signature is right, it has a subject, it has not expired, and audience and issuer are those
    given; a token that names an audience needs one given. SQL's `holdfast.postgrest_rate_limit` has the same names.

    key: what signatures are verified with: a secret (HS256), a public key as PEM, or the key set that an issuer
        publishes (RFC 7517), read by you: {"keys": [...]}. Nothing is fetched here; after a rotation make a new one.
    algorithms: those that are accepted, for example ["ES256"]; a token never chooses.
    leeway: seconds that clocks may differ.
    Needs the extra `jwt`. Raises `ConfigurationError`.

    >>> authenticate = jwt_subject("a secret of at least thirty-two bytes", algorithms=["HS256"])
    >>> authenticate({"type": "http", "headers": [(b"authorization", b"Bearer forged")]})
    """
    try:
        import jwt
    except ImportError:
        raise ConfigurationError("jwt_subject needs the extra `jwt`: pip install 'holdfast[jwt]'") from None
    accepted = _accepted(algorithms, jwt.algorithms.get_default_algorithms())
    keys = _keys(key)

    def authenticate(scope: Scope) -> str | None:
        token = _bearer(scope)
        if token is None:
            return None
        try:
            claims = jwt.decode(
                token,
                keys if not isinstance(keys, dict) else keys[jwt.get_unverified_header(token).get("kid")],
                algorithms=accepted,
                audience=audience,
                issuer=issuer,
                leeway=leeway,
                options={"require": ["sub"]},
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            return None
        return f"user:{claims['sub']}" if claims["sub"] else None

    return authenticate


def _accepted(algorithms: Collection[str], known: Mapping[str, object]) -> list[str]:
    wrong = [name for name in algorithms if name not in known or name.lower() == "none"]
    if isinstance(algorithms, str) or wrong or not algorithms:
        names = ", ".join(sorted(set(known) - {"none"}))
        raise ConfigurationError(f"algorithms is {algorithms!r}; it must be a list of some of {names}")
    return list(algorithms)


def _keys(key: str | Mapping[str, Any]) -> "str | dict[str | None, jwt.PyJWK]":
    """The one key, or those of a set by their ids."""
    import jwt

    if isinstance(key, str) and not key.lstrip().startswith("{"):
        if not key:
            raise ConfigurationError("the key that tokens are verified with is empty")
        return key
    try:
        found = jwt.PyJWKSet.from_dict(json.loads(key) if isinstance(key, str) else dict(key)).keys
    except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the key set cannot be read: {error}") from error
    if len(found) == 1:
        return {found[0].key_id: found[0], None: found[0]}
    return {each.key_id: each for each in found if each.key_id}


def _bearer(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer " and len(value) <= LONGEST:
            return bytes(value[7:]).decode("latin-1").strip()
    return None
