"""Dead letters: by cause, with samples and what each carries; discarding what needs no more doing."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from holdfast.postgres import redrives
from holdfast.postgres.overview import dead_causes
from holdfast.postgres.redrives import LetterFilter
from holdfast.web.auditing import audit_call
from holdfast.web.dashboard.access import Acting, Form, Looking
from holdfast.web.dashboard.rendering import done, render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter()

#: Letters of a cause that a page shows.
PAGE = 50
Fingerprint = Annotated[str, Query(max_length=500)]


@router.get("/dead-letters")
async def causes(request: Request, caller: Looking) -> Response:
    """The causes, those with most of today first."""
    found = await services_of(request).ledger.call(dead_causes())
    return render(request, caller, "letters.html", title="Dead letters", causes=found)


@router.get("/dead-letters/cause")
async def cause(request: Request, caller: Looking, fingerprint: Fingerprint) -> Response:
    """The letters of one cause."""
    found = await services_of(request).ledger.call(redrives.list_letters(LetterFilter(fingerprint=fingerprint), PAGE))
    if not found:
        raise Problem(404, "there are no dead letters of this cause any more: they were retried, redriven or removed")
    return render(
        request, caller, "cause.html", title=found[0].cause or "Dead letters", letters=found, most=PAGE,
        fingerprint=fingerprint,
    )  # fmt: skip


@router.post("/dead-letters/discard")
async def discard(request: Request, caller: Acting, given: Form) -> Response:
    """Decide that all letters of a cause need no more doing; they are kept, with who said so and why."""
    fingerprint, reason = given.get("fingerprint", ""), given.get("reason", "").strip()[:1000]
    if not fingerprint:
        raise Problem(422, "which cause?")
    if not reason:
        raise Problem(422, "say why: whoever comes later will want to know")
    call = redrives.discard_dead_letters(LetterFilter(fingerprint=fingerprint), caller.actor, reason)
    (many,) = await audit_call(services_of(request), caller, call, "letters.discard", fingerprint, reason=reason)
    return done(request, "dead-letters", f"{many:,} discarded. They are kept, with your name and reason.")


@router.get("/letters/{id}")
async def letter(request: Request, caller: Looking, id: UUID) -> Response:
    """One dead letter, whole: what it carries, the job it was about, and its lives."""
    services = services_of(request)
    found = await services.ledger.call(redrives.show_letter(str(id)))
    if not found:
        raise Problem(404, f"there is no dead letter {id}; it may have been removed after its retention")
    lives = await services.ledger.call(redrives.letter_history(found[0].id))
    return render(request, caller, "letter.html", title=found[0].kind or "Dead letter", letter=found[0], lives=lives)
