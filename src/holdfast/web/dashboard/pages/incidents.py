"""Incidents: what is wrong now, since when, what was told of it; taking one on, and silencing it."""

from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from holdfast.postgres import redrives
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Form, Looking
from holdfast.web.dashboard.rendering import done, render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter(prefix="/incidents")

#: How long one can be silenced for, by what the form says.
SPANS = {"1h": 3600.0, "8h": 8 * 3600.0, "24h": 86_400.0, "7d": 7 * 86_400.0}


@router.get("")
async def incidents(request: Request, caller: Looking) -> Response:
    """The open ones, and those that ended lately."""
    services = services_of(request)
    return render(
        request,
        caller,
        "incidents.html",
        title="Incidents",
        open_ones=await services.ledger.call(redrives.list_incidents(most=200)),
        ended=await services.ledger.call(redrives.list_incidents(["resolved"], most=30)),
    )


@router.get("/{id}")
async def incident(request: Request, caller: Looking, id: UUID) -> Response:
    """One incident, and what was told of it."""
    services = services_of(request)
    states = ["open", "reopened", "acknowledged", "silenced", "resolved"]
    found = await services.ledger.call(redrives.list_incidents(states, str(id), 1))
    if not found:
        raise Problem(404, f"there is no incident {id}; those that ended are kept for 90 days")
    return render(
        request, caller, "incident.html", title="Incident", incident=found[0], spans=SPANS,
        told=await services.ledger.call(redrives.incident_history(id)),
    )  # fmt: skip


@router.post("/{id}/acknowledge")
async def acknowledge(request: Request, caller: Acting, given: Form, id: UUID) -> Response:
    """Take it on, or give it back."""
    ack = given.get("ack", "yes") == "yes"
    call = redrives.incident_ack(id, caller.actor, given.get("note", "").strip()[:2000] or None, ack=ack)
    (verdict,) = await audit_call(services_of(request), caller, call, "incident.acknowledge", str(id), ack=ack)
    texts = {"acknowledged": "It is yours: it is not repeated, and told again only if it becomes more urgent.",
             "open": "It is nobody's again."}  # fmt: skip
    return _answer(request, id, verdict, texts)


@router.post("/{id}/silence")
async def silence(request: Request, caller: Acting, given: Form, id: UUID) -> Response:
    """Tell nothing of it for a while; or end that."""
    wanted = given.get("span", "")
    if wanted not in (*SPANS, "end"):
        raise Problem(422, f"for how long? {', '.join(SPANS)}")
    note = given.get("note", "").strip()[:2000] or None
    call = redrives.incident_silence(id, SPANS.get(wanted, 0.0), caller.actor, note)
    (verdict,) = await audit_call(services_of(request), caller, call, "incident.silence", str(id), span=wanted)
    texts = {"silenced": f"Nothing is told of it for {wanted}.", "open": "It is told of again."}
    return _answer(request, id, verdict, texts)


def _answer(request: Request, id: UUID, verdict: str, texts: dict[str, str]) -> Response:
    if verdict == "not_found":
        raise Problem(404, f"there is no incident {id}")
    text = texts.get(verdict, f"Nothing was done: it is {verdict}.")
    return done(request, f"incidents/{id}", text, kind="ok" if verdict in texts else "warn")
