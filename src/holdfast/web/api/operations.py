"""Actions on all jobs that match a filter, over HTTP: they go on here, on the server."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, Field

from holdfast.app import new_id
from holdfast.postgres import searching
from holdfast.web.api.access import Acting, Looking, Services, json_only
from holdfast.web.api.models import Contained, Name, Strict, Time
from holdfast.web.auditing import audit_call
from holdfast.web.problems import Problem

router = APIRouter(prefix="/api/operations", tags=["operations"])

OperationId = Annotated[UUID, Path(description="the operation's id")]


class Filter(Strict):
    """Which jobs. `error`: part of the error's type or message; `args`: a document that the arguments contain."""

    status: Literal["queued", "running", "dead", "cancelled"]
    queue: Name | None = None
    kind: Name | None = None
    error: Name | None = None
    key: Name | None = Field(None, description="a unique, group or limit key")
    args: Contained | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    fingerprint: Name | None = Field(None, description="the cause of the last error")


class NewOperation(Strict):
    """What is to be done: `retry` dead or cancelled jobs, or `cancel` queued or running ones.

    `dry_run`: only count them.
    """

    action: Literal["retry", "cancel"]
    filter: Filter
    dry_run: bool = False


class Preview(BaseModel):
    """How many jobs would be met: `jobs`, or more (`is_more`), by kind and queue."""

    jobs: int
    is_more: bool
    groups: list[dict[str, Any]]


class Operation(BaseModel):
    """An operation, and what became of jobs so far, by verdict, with the ids of some."""

    id: UUID
    action: str
    filter: dict[str, Any]
    actor: str
    status: Literal["running", "done", "cancelled"]
    expected: int
    is_more: bool
    looked: int
    done: int
    verdicts: dict[str, int]
    samples: dict[str, list[UUID]]
    created_at: datetime
    changed_at: datetime
    finished_at: datetime | None


class Operations(BaseModel):
    """The newest 50."""

    operations: list[Operation]


_FOR = {"retry": ("dead", "cancelled"), "cancel": ("queued", "running")}


@router.post(
    "",
    dependencies=[Depends(json_only)],
    status_code=202,
    response_model=Operation | Preview,
    responses={200: {"model": Preview, "description": "a dry run"}},
)
async def begin(body: NewOperation, response: Response, caller: Acting, services: Services) -> Operation | Preview:
    """Ask for it. Ask the operation's own address how far it is."""
    if body.filter.status not in _FOR[body.action]:
        raise Problem(422, f"to {body.action} takes a filter.status of {' or '.join(_FOR[body.action])}")
    wanted = searching.JobSearch(**body.filter.model_dump())
    matching = await services.ledger.one(searching.count_matching_jobs(wanted))
    if body.dry_run:
        response.status_code = 200
        return Preview(jobs=matching.jobs, is_more=matching.is_more, groups=matching.groups)
    id = new_id()
    call = searching.begin_bulk_operation(id, body.action, wanted, actor=caller.actor, matching=matching)
    given = body.filter.model_dump(mode="json", exclude_none=True)
    await audit_call(services, caller, call, f"operation.{body.action}", str(id), filter=given)
    services.operations.wake()
    response.headers["Location"] = f"/api/operations/{id}"
    return await _one(services, id)


@router.get("")
async def page(_: Looking, services: Services) -> Operations:
    """The newest first."""
    found = await services.ledger.call(searching.list_bulk_operations())
    return Operations(operations=[Operation(**asdict(each)) for each in found])


@router.get("/{id}")
async def read(id: OperationId, _: Looking, services: Services) -> Operation:
    """How far it is."""
    return await _one(services, id)


@router.post("/{id}/cancel")
async def cancel(id: OperationId, caller: Acting, services: Services) -> Operation:
    """Act on no more jobs; what was done stays done."""
    ended = await audit_call(services, caller, searching.cancel_bulk_operation(id), "operation.cancel", str(id))
    found = await _one(services, id)
    if not ended and found.status == "done":
        raise Problem(409, "it is done already", operation_status=found.status)
    return found


async def _one(services: Services, id: UUID) -> Operation:
    found = await services.ledger.call(searching.list_bulk_operations(id))
    if not found:
        raise Problem(404, f"there is no operation {id}; operations are kept for 90 days")
    return Operation(**asdict(found[0]))
