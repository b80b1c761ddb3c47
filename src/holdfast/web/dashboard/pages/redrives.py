"""Redrives: dead letters sent again, at a rate, a few first; preview, progress, pause, resume, cancel."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from holdfast.app import new_id
from holdfast.postgres import redrives
from holdfast.postgres.redrives import LetterFilter, RedriveOptions
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Form, Looking
from holdfast.web.dashboard.rendering import done, is_uuid, render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter(prefix="/redrives")

#: What a button asks of a redrive, and the words for it.
ACTIONS = {
    "pause": ("paused from the dashboard", "Paused: nothing more is sent until it is resumed."),
    "resume": ("resumed from the dashboard", "It goes on."),
    "cancel": ("cancelled from the dashboard", "Cancelled. What was not sent stays a dead letter."),
}


@router.get("")
async def list_all(request: Request, caller: Looking) -> Response:
    """The newest first."""
    found = await services_of(request).ledger.call(redrives.list_redrives())
    return render(request, caller, "redrives.html", title="Redrives", redrives=found)


@router.get("/new")
async def preview(
    request: Request,
    caller: Looking,
    fingerprint: Annotated[str, Query(max_length=500)] = "",
    id: UUID | None = None,
) -> Response:
    """What would be sent, and how."""
    wanted = _wanted(fingerprint, str(id) if id else "")
    found = await services_of(request).ledger.call(redrives.letter_groups(wanted))
    return render(
        request, caller, "redrive_new.html", title="Redrive", live=False, groups=found, new_id=new_id(),
        total=sum(group.letters for group in found), quarantined=sum(group.quarantined for group in found),
        fingerprint=fingerprint, letter_id=str(id) if id else "",
    )  # fmt: skip


@router.post("")
async def begin(request: Request, caller: Acting, given: Form) -> Response:
    """Ask for it; a monitor sends. The same form sent twice is one redrive."""
    if not is_uuid(given.get("id", "")):
        raise Problem(422, "this form lacks the redrive's id; go back to the dead letters")
    id, wanted = UUID(given["id"]), _wanted(given.get("fingerprint", ""), given.get("letter_id", ""))
    options = RedriveOptions(
        caller.actor,
        given.get("note", "").strip()[:1000] or None,
        canary=int(_number(given, "canary", 0, 10_000)),
        rate=_number(given, "rate", 0.01, 10_000) or None,
    )
    call = redrives.redrive_dead_letters(id, wanted, options)
    (frozen,) = await audit_call(
        services_of(request), caller, call, "redrive.begin", str(id), filter=wanted.as_json(), options=options.as_json()
    )
    left = "".join(
        f" {many:,} left out: {why}."
        for many, why in ((frozen.quarantined, "they came back too often"), (frozen.busy, "in another redrive"))
        if many
    )
    return done(request, f"redrives/{id}", f"{frozen.total:,} to be sent.{left}", kind="ok" if frozen.total else "warn")


@router.get("/{id}")
async def show(request: Request, caller: Looking, id: UUID) -> Response:
    """How far it is."""
    found = await services_of(request).ledger.call(redrives.list_redrives(str(id)))
    if not found:
        raise Problem(404, f"there is no redrive {id}")
    return render(request, caller, "redrive.html", title="Redrive", redrive=found[0])


@router.post("/{id}/{action}")
async def change(request: Request, caller: Acting, id: UUID, action: str) -> Response:
    """Pause, resume or cancel it."""
    if action not in ACTIONS:
        raise Problem(404, "there is nothing at this address")
    reason, text = ACTIONS[action]
    call = redrives.change_redrive(id, action, f"{reason} by {caller.actor}")
    (status,) = await audit_call(services_of(request), caller, call, f"redrive.{action}", str(id))
    if status is None:
        raise Problem(404, f"there is no redrive {id}")
    wanted = {"pause": ("paused",), "resume": ("running", "checking"), "cancel": ("cancelled",)}[action]
    is_done = status in wanted
    return done(request, f"redrives/{id}", text if is_done else f"Nothing was done: it is {status}.",
                kind="ok" if is_done else "warn")  # fmt: skip


def _wanted(fingerprint: str, letter_id: str) -> LetterFilter:
    if not fingerprint and not is_uuid(letter_id):
        raise Problem(400, "which dead letters? begin a redrive from a cause or a letter")
    return LetterFilter(ids=[letter_id] if letter_id else None, fingerprint=fingerprint or None)


def _number(given: dict[str, str], name: str, least: float, most: float) -> float:
    text = given.get(name, "").strip()
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if text and not least <= value <= most:
        raise Problem(422, f"{name} is {text[:40]!r}; it must be a number from {least:g} to {most:g}")
    return value
