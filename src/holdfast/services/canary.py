"""The canary: a kind of job that every worker knows, and that does nothing but end well.

A canary sent through a queue shows that the whole way works: enqueue, claim, run, settle. Its name is reserved.
"""

from holdfast.core.kind import CANARY, Kind, Policy, make_kind
from holdfast.services.context import Context


async def canary() -> str:
    """What a worker runs."""
    return "alive"


def canary_kind() -> Kind:
    """The kind, for the kinds of a worker."""
    return make_kind(
        canary,
        name=CANARY,
        queue="default",
        priority=-1000,
        policy=Policy(max_attempts=1, timeout=30.0),
        context_type=Context,
    )
