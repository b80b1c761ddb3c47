"""Dead letters: by cause, with samples and what each carries; and another life for all jobs of a cause."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from holdfast.postgres.overview import cause_letters, dead_causes
from holdfast.web.dashboard.access import Looking
from holdfast.web.dashboard.rendering import render
from holdfast.web.problems import Problem
from holdfast.web.services import services_of

router = APIRouter(prefix="/dead-letters")

#: Letters of a cause that a page shows.
PAGE = 50


@router.get("")
async def causes(request: Request, caller: Looking) -> Response:
    """The causes, those with most of today first."""
    found = await services_of(request).ledger.call(dead_causes())
    return render(request, caller, "letters.html", title="Dead letters", causes=found)


@router.get("/{fingerprint}")
async def cause(request: Request, caller: Looking, fingerprint: Annotated[str, Path(max_length=500)]) -> Response:
    """The letters of one cause."""
    found = await services_of(request).ledger.call(cause_letters(fingerprint, PAGE))
    if not found:
        raise Problem(404, "there are no dead letters of this cause any more: they were retried, redriven or removed")
    return render(
        request, caller, "cause.html", title=found[0].cause or "Dead letters", letters=found, most=PAGE,
        fingerprint=fingerprint, has_jobs=any(letter.source == "job" for letter in found),
    )  # fmt: skip
