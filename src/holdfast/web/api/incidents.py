"""Incidents over HTTP: what is wrong now, since when; taking one on, and silencing it."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from holdfast.postgres import redrives
from holdfast.postgres.calls import Call
from holdfast.postgres.redrives import IncidentLine
from holdfast.web.api.access import Acting, Looking, Services, json_only
from holdfast.web.api.models import Note, Strict
from holdfast.web.auditing import audit_call
from holdfast.web.auth import Caller
from holdfast.web.problems import Problem
from holdfast.web.services import ApiServices

router = APIRouter(prefix="/api/incidents", tags=["incidents"])

State = Literal["open", "reopened", "acknowledged", "silenced", "resolved"]
STATES: tuple[State, ...] = ("open", "reopened", "acknowledged", "silenced", "resolved")
IncidentId = Annotated[UUID, Path(description="the incident's id")]


class Incidents(BaseModel):
    """Incidents, those that are not over first."""

    incidents: list[IncidentLine]


class Acknowledge(Strict):
    """Take an incident on; or with `acknowledged` false give it back."""

    acknowledged: bool = True
    note: Note | None = None


class Silence(Strict):
    """Tell nothing of an incident for so many seconds; 0 ends a silence."""

    seconds: float = Field(ge=0, le=30 * 86_400)
    note: Note | None = None


@router.get("")
async def page(
    _: Looking,
    services: Services,
    state: Annotated[list[State] | None, Query(description="all but resolved, if none is given")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Incidents:
    """What is wrong now; or incidents in some states."""
    return Incidents(incidents=await services.ledger.call(redrives.list_incidents(state, most=limit)))


@router.get("/{id}")
async def read(id: IncidentId, _: Looking, services: Services) -> IncidentLine:
    """One incident."""
    return await _one(services, id)


@router.post("/{id}/acknowledge", dependencies=[Depends(json_only)])
async def acknowledge(id: IncidentId, body: Acknowledge, caller: Acting, services: Services) -> IncidentLine:
    """Take it on: it is not repeated, and told again only if it becomes more urgent."""
    call = redrives.incident_ack(id, caller.actor, body.note, ack=body.acknowledged)
    return await _change(services, caller, id, call, "incident.acknowledge", ack=body.acknowledged)


@router.post("/{id}/silence", dependencies=[Depends(json_only)])
async def silence(id: IncidentId, body: Silence, caller: Acting, services: Services) -> IncidentLine:
    """Tell nothing of it for a while, not even its end."""
    call = redrives.incident_silence(id, body.seconds, caller.actor, body.note)
    return await _change(services, caller, id, call, "incident.silence", seconds=body.seconds)


async def _change(
    services: ApiServices, caller: Caller, id: UUID, call: Call[str], action: str, **details: object
) -> IncidentLine:
    (verdict,) = await audit_call(services, caller, call, action, str(id), **details)
    if verdict == "resolved":
        raise Problem(409, "it is over already", incident_state=verdict)
    return await _one(services, id)


async def _one(services: ApiServices, id: UUID) -> IncidentLine:
    found = await services.ledger.call(redrives.list_incidents(STATES, str(id), 1))
    if not found:
        raise Problem(404, f"there is no incident {id}; those that ended are kept for 90 days")
    return found[0]
