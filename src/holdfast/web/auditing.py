"""Changes that somebody asks for over HTTP, each written to the audit log with what became of it."""

from typing import Any, TypeVar

from holdfast.postgres.audit import Entry, audited
from holdfast.postgres.calls import Call
from holdfast.web.auth import Caller
from holdfast.web.services import ApiServices

Row = TypeVar("Row")


async def audit_call(
    services: ApiServices, caller: Caller, call: Call[Row], action: str, target: str = "", **details: Any
) -> list[Row]:
    """Run the call and write down who asked for it, as one statement."""
    entry = Entry(
        caller.actor, caller.role or "", caller.access, caller.address, action, target,
        {name: value for name, value in details.items() if value is not None},
    )  # fmt: skip
    return await services.ledger.call(audited(call, entry))
