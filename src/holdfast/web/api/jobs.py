"""Jobs over HTTP: write, read, list, cancel, retry."""

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from pydantic import AwareDatetime, ValidationError

from holdfast.app import new_id
from holdfast.core.access import Permission
from holdfast.core.kind import Kind, Policy
from holdfast.core.metrics import ENQUEUED
from holdfast.core.payload import PayloadError, encode
from holdfast.core.retry import RetryPolicy
from holdfast.errors import DatabaseError, IdempotencyKeyReused, InvalidArguments
from holdfast.postgres import calls, reads, searching
from holdfast.web.api import models
from holdfast.web.api.access import Acting, Asking, Looking, Services, Submitting, json_only
from holdfast.web.api.models import Name
from holdfast.web.auditing import audit_call
from holdfast.web.auth import Caller
from holdfast.web.problems import Problem
from holdfast.web.services import ApiServices

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

Status = Literal["queued", "running", "succeeded", "dead", "cancelled"]
JobId = Annotated[UUID, Path(description="the job's id")]

#: What a job carries.
_BODIES = ("args", "progress", "result")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@router.post(
    "",
    dependencies=[Depends(json_only)],
    status_code=201,
    response_model=models.Submitted | models.SubmittedMany,
    responses={200: {"description": "the job was there already, by its unique_key"}},
)
async def submit(
    body: models.Submission,
    request: Request,
    response: Response,
    caller: Submitting,
    services: Services,
    idempotency_key: Annotated[str | None, Header(description="names this request, for 24 hours")] = None,
    traceparent: Annotated[str | None, Header()] = None,
) -> models.Submitted | models.SubmittedMany:
    """Write one job, or many in one transaction. It is committed when the answer comes.

    With an `Idempotency-Key` the request may be sent again, however often: the jobs are written once, and the answer is
    the same (draft-ietf-httpapi-idempotency-key-header).
    """
    wanted = body.jobs if isinstance(body, models.NewJobs) else [body]
    await _refuse_unknown_kinds(wanted, services)
    trace = traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None
    prepared = [_prepare(job, services.settings.kinds, trace) for job in wanted]
    if idempotency_key is None and len(prepared) == 1:
        answers = await services.enqueuer.enqueue(prepared)
    elif idempotency_key is None:
        answers = await services.enqueuer.enqueue_together(prepared)
    else:
        once = await _once(services, caller, idempotency_key, await request.body(), prepared)
        answers = [calls.Enqueued(each.ord, each.id, each.created) for each in once]
        if once[0].replayed:
            response.headers["Idempotent-Replayed"] = "true"
    for job, answer in zip(prepared, answers, strict=True):
        if answer.created and "Idempotent-Replayed" not in response.headers:
            services.counts.add(ENQUEUED, (job.queue, job.kind))
    submitted = [
        models.Submitted(id=answer.id, kind=job.kind, queue=job.queue, created=answer.created)
        for job, answer in zip(prepared, answers, strict=True)
    ]
    if isinstance(body, models.NewJobs):
        return models.SubmittedMany(jobs=submitted)
    response.headers["Location"] = f"/api/jobs/{submitted[0].id}"
    if not submitted[0].created:
        response.status_code = 200
    return submitted[0]


@router.get("")
async def page(
    _: Looking,
    services: Services,
    status: Status | None = None,
    queue: Annotated[Name | None, Query()] = None,
    kind: Annotated[Name | None, Query()] = None,
    error: Annotated[Name | None, Query(description="a part of the error's type or message")] = None,
    key: Annotated[Name | None, Query(description="a unique, group or limit key")] = None,
    args: Annotated[str | None, Query(max_length=4000, description="JSON that the arguments contain")] = None,
    fingerprint: Annotated[models.Text | None, Query(description="the cause of the last error")] = None,
    created_after: AwareDatetime | None = None,
    created_before: AwareDatetime | None = None,
    before: Annotated[UUID | None, Query(description="where the page begins: from `next`")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> models.JobPage:
    """Jobs by filter, newest first, a page at a time.

    One page looks at 10,000 jobs at most: it may have few or none, and a `next` behind which there are more.
    """
    wanted = searching.JobSearch(
        status, queue, kind, error, key, _contained(args), created_after, created_before, fingerprint
    )  # fmt: skip
    found = await services.ledger.one(searching.search_jobs(wanted, before=before, limit=limit))
    asked = {**json.loads(wanted.as_json()), **({"args": args} if args else {}), "limit": limit}
    following = f"/api/jobs?{urlencode({**asked, 'before': found.next})}" if found.next else None
    lines = [models.JobLine(**{name: getattr(job, name) for name in models.JobLine.model_fields}) for job in found.jobs]
    return models.JobPage(jobs=lines, next=following)


@router.get("/{id}")
async def read(id: JobId, caller: Asking, services: Services) -> dict[str, Any]:
    """One job as the ledger has it, with what happened to it. Durations are in seconds.

    What it carries is for operators; a viewer finds it null, and named under `hidden`.
    """
    rows = await services.ledger.call(reads.job(id))
    if not rows:
        raise _not_found(id)
    events = await services.ledger.call(reads.job_events(id))
    encoded: dict[str, Any] = jsonable_encoder({**asdict(rows[0]), "events": [asdict(event) for event in events]})
    if not caller.may(Permission.BODIES):
        encoded |= dict.fromkeys(_BODIES, None) | {"hidden": list(_BODIES)}
    return encoded | {
        name: None if (value := getattr(rows[0], name)) is None else value.total_seconds()
        for name in ("timeout", "silent_after")
    }


@router.post("/{id}/cancel")
async def cancel(id: JobId, caller: Acting, services: Services) -> models.JobVerdict:
    """Cancel a queued job at once; ask the worker of a running one to stop it."""
    (verdict,) = await audit_call(services, caller, calls.cancel_jobs([id]), "job.cancel", str(id))
    if verdict.verdict == "finished" and verdict.status != "cancelled":
        raise Problem(409, f"it is {verdict.status} already", job_status=verdict.status)
    return _answer(verdict)


@router.post("/{id}/retry")
async def retry(id: JobId, caller: Acting, services: Services) -> models.JobVerdict:
    """Give a dead or cancelled job another life; wake a queued one that waits for a later time."""
    (verdict,) = await audit_call(services, caller, calls.retry_jobs([id]), "job.retry", str(id))
    refusals = {
        "running": "it is running",
        "succeeded": "it succeeded",
        "unique_taken": "another job holds its unique key now",
    }
    if verdict.verdict in refusals:
        raise Problem(409, refusals[verdict.verdict], job_status=verdict.status)
    return _answer(verdict)


def _contained(text: str | None) -> dict[str, Any] | None:
    try:
        return None if text is None else models.CONTAINED.validate_json(text)
    except ValidationError:
        raise Problem(422, 'query/args: it must be a JSON object, as {"user": {"plan": "pro"}}') from None


def _answer(verdict: calls.JobVerdict) -> models.JobVerdict:
    if verdict.verdict == "not_found":
        raise _not_found(verdict.id)
    return models.JobVerdict(id=verdict.id, verdict=verdict.verdict, status=verdict.status)


def _not_found(id: UUID) -> Problem:
    return Problem(404, f"no job has the id {id}; it may have been removed after its retention")


async def _refuse_unknown_kinds(jobs: Sequence[models.NewJob], services: ApiServices) -> None:
    """A mistyped kind would wait for ever. Without an application here nobody can tell, and all are accepted."""
    own = services.settings.kinds
    strangers = {job.kind for job in jobs if own and job.kind not in own and not job.accept_unknown_kind}
    if not strangers:
        return
    live = set(await services.ledger.call(reads.live_kinds()))
    for kind in sorted(strangers - live):
        close = difflib.get_close_matches(kind, {*own, *live}, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise Problem(
            422, f'no worker knows the kind {kind!r}{meant} (to write it all the same: "accept_unknown_kind": true)'
        )


def _prepare(job: models.NewJob, kinds: dict[str, Kind] | Any, traceparent: str | None) -> calls.NewJob:
    kind: Kind | None = kinds.get(job.kind)
    policy = _policy(kind.policy if kind else Policy(), job.policy)
    limit_key = job.limit_key or (job.kind if kind and kind.policy.limit_max is not None else None)
    return calls.NewJob(
        id=new_id(),
        queue=job.queue or (kind.queue if kind else "default"),
        kind=job.kind,
        args=kind.encode_arguments((), job.args) if kind else _encode(job),
        policy=encode(policy.as_json(), what="policy"),
        priority=job.priority if job.priority is not None else (kind.priority or None if kind else None),
        run_at=job.run_at,
        delay=job.delay,
        unique_key=job.unique_key,
        group_key=job.group_key,
        limit_key=limit_key,
        traceparent=traceparent,
    )


def _encode(job: models.NewJob) -> str:
    try:
        return encode(job.args, what=f"arguments of {job.kind}")
    except PayloadError as error:
        raise InvalidArguments(str(error)) from error


def _policy(own: Policy, wanted: models.PolicyOptions) -> Policy:
    """The kind's policy with what the request sets. A `timeout` of null, written out, is none."""
    changes: dict[str, Any] = {
        name: value
        for name, value in wanted.model_dump(exclude_unset=True).items()
        if value is not None or name in ("timeout", "silent_after")
    }
    if wanted.retry is not None:
        changes["retry"] = RetryPolicy(**wanted.retry.model_dump())
    return Policy(**{**{name: getattr(own, name) for name in Policy.__dataclass_fields__}, **changes})


async def _once(
    services: ApiServices, caller: Caller, key: str, body: bytes, jobs: Sequence[calls.NewJob]
) -> list[calls.EnqueuedOnce]:
    if not _KEY.fullmatch(key):
        raise Problem(400, "the Idempotency-Key must have 1 to 255 visible ASCII characters")
    call = calls.enqueue_once(caller.identity, key, _digest(body), jobs)
    try:
        try:
            answers = await services.ledger.call(call)
        except DatabaseError:
            # The commit may have happened. The key makes the same call again answer what the first one did.
            answers = await services.ledger.call(call)
    except IdempotencyKeyReused:
        raise Problem(422, "this Idempotency-Key was used for another request within the last 24 hours") from None
    services.enqueuer.ring_for(jobs)
    return sorted(answers, key=lambda answer: answer.ord)


def _digest(body: bytes) -> str:
    """The same document in another order of its members is the same request."""
    return hashlib.sha256(json.dumps(json.loads(body), sort_keys=True).encode()).hexdigest()
