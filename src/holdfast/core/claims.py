"""Which role a token's claims give: a JSON Web Token says who somebody is, one of its claims what they may do here."""

from collections.abc import Mapping
from typing import Any

from holdfast.core.api_keys import Role

#: What a token can give, the most first.
_ROLES = (Role.ADMIN, Role.OPERATOR, Role.VIEWER, Role.SUBMITTER)


def role_of(claims: Mapping[str, Any], path: str) -> Role | None:
    """The role named at a path of the claims, the one with most power of several; None where there is none.

    >>> role_of({"app_metadata": {"holdfast_role": "operator"}}, "app_metadata.holdfast_role")
    <Role.OPERATOR: 'operator'>
    >>> role_of({"groups": ["viewer", "admin", "sales"]}, "groups")
    <Role.ADMIN: 'admin'>
    >>> role_of({"role": "authenticated"}, "role")
    """
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    names = found if isinstance(found, list) else [found]
    return next((role for role in _ROLES if role.value in names), None)
