"""The audit log: each change that somebody asks for is written down in the statement that makes it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement

Row = TypeVar("Row")

_ENTRY = ("actor", "role", "via", "address", "action", "target", "details")


@dataclass(frozen=True)
class Entry:
    """What somebody does. `via`: key, session, or open; `target` is what it is done to."""

    actor: str
    role: str
    via: str
    address: str
    action: str
    target: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the log; `outcome` is what the ledger answered, 100 rows at most."""

    id: int
    at: datetime
    actor: str
    role: str
    via: str
    address: str
    action: str
    target: str
    details: dict[str, Any]
    outcome: list[Any]


def audited(call: Call[Row], entry: Entry) -> Call[Row]:
    """The call, and the note of it, as one statement: neither is without the other. It needs a connection."""
    values = {
        **{name: getattr(entry, name) for name in _ENTRY},
        "details": json.dumps(dict(entry.details), default=str),
    }
    parameters: Any
    if isinstance(call.parameters, tuple):
        parameters = (*call.parameters, *(values[name] for name in _ENTRY))
        places = dict.fromkeys(_ENTRY, "%s")
    else:
        parameters = {**call.parameters, **{f"audit_{name}": value for name, value in values.items()}}
        places = {name: f"%(audit_{name})s" for name in _ENTRY}
    text = "".join(
        (
            "WITH act AS MATERIALIZED (\n",
            call.text,
            "\n), noted AS (\nINSERT INTO holdfast.audit_log (",
            ", ".join(_ENTRY),
            ", at, outcome)\nSELECT ",
            ", ".join(f"{places[name]}::{'jsonb' if name == 'details' else 'text'}" for name in _ENTRY),
            ", holdfast.clock(), coalesce((SELECT jsonb_agg(to_jsonb(a)) FROM (SELECT * FROM act LIMIT 100) a), '[]')",
            "\n)\nSELECT * FROM act",
        )
    )
    return Call(call.name, text, parameters, call.row)


def list_audit(
    *, before: int | None = None, action: str | None = None, target: str | None = None, limit: int = 50
) -> Call[AuditRow]:
    """What was changed and by whom, newest first; the next page is `before` the last id of this one."""
    parameters = {"before": before, "action": action, "target": target, "limit": limit}
    return Call("list_audit", statement("list_audit"), parameters, AuditRow)


def prune_audit() -> Call[int]:
    """Forget what is old enough; one bounded step."""
    return Call("prune_audit", statement("prune_audit"), {}, int)
