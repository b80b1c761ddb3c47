"""Dead letters and redrives over HTTP: look, send again, discard."""

from dataclasses import asdict
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, Field, model_validator

from holdfast.app import new_id
from holdfast.core.access import Permission
from holdfast.postgres import redrives
from holdfast.postgres.redrives import Frozen, LetterCause, LetterFilter, LetterLine, RedriveLine, RedriveOptions
from holdfast.web.api.access import Acting, Looking, Services, json_only
from holdfast.web.api.models import TEN_YEARS, Id, Name, Note, Strict, Text
from holdfast.web.auditing import audit_call
from holdfast.web.auth import Caller
from holdfast.web.problems import Problem
from holdfast.web.services import ApiServices

router = APIRouter(prefix="/api")

#: What a message carries.
_BODIES = ("body", "attributes", "original")
_REACHED = {"pause": ("paused",), "resume": ("running", "checking"), "cancel": ("cancelled",)}
Span = Annotated[float, Field(gt=0, le=TEN_YEARS, description="seconds")]
LetterId = Annotated[UUID, Path(description="the dead letter's id")]
RedriveId = Annotated[UUID, Path(description="the redrive's id")]


class Letters(BaseModel):
    """Dead letters that are there, the newest first."""

    letters: list[LetterLine]


class Causes(BaseModel):
    """Dead letters by cause, the most first."""

    groups: list[LetterCause]


class Which(Strict):
    """Which dead letters are meant: all that is given must hold. `ids` of letters or of jobs; spans in seconds.

    `all`: every one, to be said in so many words.
    """

    ids: list[Id] | None = Field(None, min_length=1, max_length=1000)
    fingerprint: Text | None = None
    queue: Text | None = None
    source: Literal["job", "sqs"] | None = None
    kind: Name | None = None
    cause: Text | None = None
    newer: Span | None = None
    older: Span | None = None
    all: bool = False

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.wanted.is_everything != self.all:
            raise ValueError('name a fingerprint, ids or another filter; for every dead letter say {"all": true} alone')
        return self

    @property
    def wanted(self) -> LetterFilter:
        """As the ledger is asked."""
        given = self.model_dump(exclude={"all", "ids"})
        return LetterFilter(ids=None if self.ids is None else [str(each) for each in self.ids], **given)


class NewRedrive(Strict):
    """Dead letters to be sent again: `canary` of them first, then `rate` a second.

    With an `id` of yours the request may be sent again: it is one redrive. `dry_run`: only count them.
    """

    filter: Which
    id: Id | None = None
    note: Note | None = None
    canary: int = Field(0, ge=0, le=10_000)
    canary_wait: float = Field(300.0, ge=0, le=86_400, description="seconds that the first ones are watched")
    rate: float | None = Field(None, ge=0.01, le=10_000)
    quarantine_after: int = Field(3, ge=1, le=1000, description="leave out what came back so often")
    dry_run: bool = False


class Redrives(BaseModel):
    """The newest 50."""

    redrives: list[RedriveLine]


class Begun(BaseModel):
    """A redrive that was asked for, and what it was made of."""

    redrive: RedriveLine
    frozen: Frozen


class Discard(Strict):
    """Dead letters that need no more doing, and why."""

    filter: Which
    reason: Note


class Discarded(BaseModel):
    """How many were."""

    discarded: int


@router.get("/dead-letters", tags=["dead letters"])
async def page(
    _: Looking,
    services: Services,
    fingerprint: Annotated[Text | None, Query()] = None,
    queue: Annotated[Text | None, Query()] = None,
    source: Literal["job", "sqs"] | None = None,
    kind: Annotated[Name | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Letters:
    """Dead letters by filter, jobs and messages alike."""
    wanted = LetterFilter(fingerprint=fingerprint, queue=queue, source=source, kind=kind)
    return Letters(letters=await services.ledger.call(redrives.list_letters(wanted, limit)))


@router.get("/dead-letters/groups", tags=["dead letters"])
async def groups(
    _: Looking,
    services: Services,
    queue: Annotated[Text | None, Query()] = None,
    source: Literal["job", "sqs"] | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Causes:
    """Dead letters by cause, counted, each with a sample."""
    call = redrives.letter_groups(LetterFilter(queue=queue, source=source), most=limit)
    return Causes(groups=await services.ledger.call(call))


@router.post("/dead-letters/discard", tags=["dead letters"], dependencies=[Depends(json_only)])
async def discard(body: Discard, caller: Acting, services: Services) -> Discarded:
    """Decide that letters need no more doing; they are kept, with who said so and why."""
    call = redrives.discard_dead_letters(body.filter.wanted, caller.actor, body.reason)
    given = body.filter.model_dump(mode="json", exclude_none=True)
    (many,) = await audit_call(services, caller, call, "letters.discard", filter=given, reason=body.reason)
    return Discarded(discarded=many)


@router.get("/dead-letters/{id}", tags=["dead letters"])
async def read(id: LetterId, caller: Looking, services: Services) -> dict[str, Any]:
    """One dead letter, whole, with the job that it was about and its lives.

    What it carries is for operators; a viewer finds it null, and named under `hidden`.
    """
    found = await services.ledger.call(redrives.show_letter(str(id)))
    if not found:
        raise Problem(404, f"there is no dead letter {id}; it may have been removed after its retention")
    lives = await services.ledger.call(redrives.letter_history(found[0].id))
    encoded: dict[str, Any] = jsonable_encoder({**asdict(found[0]), "lives": [asdict(life) for life in lives]})
    if not caller.may(Permission.BODIES):
        encoded |= dict.fromkeys(_BODIES, None) | {"hidden": list(_BODIES)}
    return encoded


@router.get("/redrives", tags=["redrives"])
async def list_all(_: Looking, services: Services) -> Redrives:
    """The newest first."""
    return Redrives(redrives=await services.ledger.call(redrives.list_redrives()))


@router.post(
    "/redrives",
    tags=["redrives"],
    dependencies=[Depends(json_only)],
    status_code=202,
    response_model=Begun | Causes,
    responses={200: {"model": Causes, "description": "a dry run"}},
)
async def begin(body: NewRedrive, response: Response, caller: Acting, services: Services) -> Begun | Causes:
    """Ask for it; a monitor sends. Ask the redrive's own address how far it is."""
    wanted = body.filter.wanted
    if body.dry_run:
        response.status_code = 200
        return Causes(groups=await services.ledger.call(redrives.letter_groups(wanted, body.quarantine_after)))
    id = body.id or new_id()
    options = RedriveOptions(
        caller.actor, body.note, canary=body.canary, canary_wait=body.canary_wait, rate=body.rate,
        quarantine_after=body.quarantine_after,
    )  # fmt: skip
    call = redrives.redrive_dead_letters(id, wanted, options)
    given = body.filter.model_dump(mode="json", exclude_none=True)
    (frozen,) = await audit_call(
        services, caller, call, "redrive.begin", str(id), filter=given, options=options.as_json()
    )
    response.headers["Location"] = f"/api/redrives/{id}"
    return Begun(redrive=await _one(services, id), frozen=frozen)


@router.get("/redrives/{id}", tags=["redrives"])
async def show(id: RedriveId, _: Looking, services: Services) -> RedriveLine:
    """How far it is."""
    return await _one(services, id)


@router.post("/redrives/{id}/pause", tags=["redrives"])
async def pause(id: RedriveId, caller: Acting, services: Services) -> RedriveLine:
    """Send nothing more until it is resumed."""
    return await _change(services, caller, id, "pause")


@router.post("/redrives/{id}/resume", tags=["redrives"])
async def resume(id: RedriveId, caller: Acting, services: Services) -> RedriveLine:
    """Let a paused one go on."""
    return await _change(services, caller, id, "resume")


@router.post("/redrives/{id}/cancel", tags=["redrives"])
async def cancel(id: RedriveId, caller: Acting, services: Services) -> RedriveLine:
    """End it. What was not sent stays a dead letter."""
    return await _change(services, caller, id, "cancel")


async def _change(services: ApiServices, caller: Caller, id: UUID, action: str) -> RedriveLine:
    call = redrives.change_redrive(id, action, f"{action} over the API by {caller.actor}")
    await audit_call(services, caller, call, f"redrive.{action}", str(id))
    found = await _one(services, id)
    if found.status not in _REACHED[action]:
        raise Problem(409, f"nothing was done: it is {found.status}", redrive_status=found.status)
    return found


async def _one(services: ApiServices, id: UUID) -> RedriveLine:
    found = await services.ledger.call(redrives.list_redrives(str(id)))
    if not found:
        raise Problem(404, f"there is no redrive {id}")
    return found[0]
