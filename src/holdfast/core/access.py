"""Who may do what: the one table that the API and the dashboard ask.

A viewer looks, an operator also acts on what is there, a submitter only adds jobs and asks after one by its
id, an admin does all. What jobs carry (arguments, results, bodies of messages) may be anybody's personal data: it takes
an operator.

>>> may(Role.VIEWER, Permission.ACT)
False
>>> who_may(Permission.ACT)
'operator or admin'
"""

from collections.abc import Mapping
from enum import StrEnum

from holdfast.core.api_keys import Role


class Permission(StrEnum):
    """What a request may need."""

    LOOK = "look at everything but what jobs carry"
    BODIES = "see what jobs carry"
    ASK = "ask after one job"
    SUBMIT = "add jobs"
    ACT = "change what is there"
    SELF = "ask who it is, and how this deployment is"
    METRICS = "read metrics"
    DESCRIBE = "read the description of the API"
    AUDIT = "see who did what"


_LOOK = frozenset({Permission.LOOK, Permission.ASK, Permission.SELF, Permission.METRICS, Permission.DESCRIBE})
MAY: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: _LOOK,
    Role.SUBMITTER: frozenset(
        {Permission.SUBMIT, Permission.ASK, Permission.BODIES, Permission.SELF, Permission.DESCRIBE}
    ),
    Role.OPERATOR: _LOOK | {Permission.BODIES, Permission.ACT, Permission.AUDIT},
    Role.ADMIN: frozenset(Permission),
    Role.CANARY: frozenset({Permission.SELF}),
}
#: What changes something: refused in read-only mode, whoever asks.
CHANGES = frozenset({Permission.SUBMIT, Permission.ACT})


def may(role: Role, permission: Permission) -> bool:
    """Whether a role may do that."""
    return permission in MAY[role]


def who_may(permission: Permission) -> str:
    """The roles that may, in words."""
    return " or ".join(role for role in Role if may(role, permission))
