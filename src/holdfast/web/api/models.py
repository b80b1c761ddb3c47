"""What requests and answers of the API look like."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)

from holdfast.core.job import DUE_YEARS, EARLIEST, LATEST
from holdfast.core.payload import encode, is_storable


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("it holds the character NUL, which Postgres cannot store")
    return text


def _findable(document: dict[str, Any]) -> dict[str, Any]:
    encode(document, what="it", max_bytes=100_000)
    return document


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_storable)]
Note = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_storable)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86400)]
MOST_JOBS = 1000
TEN_YEARS = 10 * 366 * 86400


#: What arguments must contain.
Contained = Annotated[dict[str, Any], AfterValidator(_findable)]
CONTAINED: TypeAdapter[dict[str, Any]] = TypeAdapter(Contained)


def _written_out(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("it must be text, as 2026-01-31T08:00:00Z")
    return value


Id = Annotated[UUID, Field(strict=False)]
Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out)]


class Strict(BaseModel):
    """What somebody sends: nothing unknown, and nothing taken for something else (true is no number, "1" neither)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Retry(Strict):
    """Delays between attempts: `base * factor ** (attempt - 1)` seconds, at most `cap`, give or take `jitter`."""

    base: float = Field(2.0, ge=0, le=366 * 86400)
    factor: float = Field(2.0, ge=1, le=1000)
    cap: float = Field(600.0, ge=0, le=366 * 86400)
    jitter: float = Field(0.2, ge=0, le=1)


class PolicyOptions(Strict):
    """What the ledger decides by; what is left out is as the kind has it, or the default. Times in seconds."""

    max_attempts: int | None = Field(None, ge=1, le=1_000_000)
    max_crashes: int | None = Field(None, ge=1, le=1_000_000)
    timeout: Seconds | None = None
    silent_after: Seconds | None = None
    rescue: Literal["requeue", "dead"] | None = None
    retry: Retry | None = None
    limit_max: int | None = Field(None, ge=1, le=1_000_000)


class NewJob(Strict):
    """A job to be written."""

    kind: Name
    args: dict[str, Any] = Field(default_factory=dict)
    queue: Name | None = None
    priority: int | None = Field(None, ge=-1000, le=1000, description="-1000 is first")
    run_at: Time | None = None
    delay: float | None = Field(None, ge=0, le=TEN_YEARS, description="seconds")
    unique_key: Name | None = None
    group_key: Name | None = None
    limit_key: Name | None = None
    policy: PolicyOptions = PolicyOptions()
    accept_unknown_kind: bool = Field(False, description="for a kind that no worker knows yet")

    @model_validator(mode="after")
    def _one_time(self) -> "NewJob":
        if self.run_at is not None and self.delay is not None:
            raise ValueError("give run_at or delay, not both")
        if self.run_at is not None and not EARLIEST <= self.run_at <= LATEST:
            raise ValueError(DUE_YEARS)
        return self


class NewJobs(Strict):
    """Up to 1,000 jobs, written in one transaction: all or none."""

    jobs: list[NewJob] = Field(min_length=1, max_length=MOST_JOBS)


def _which(body: Any) -> str:
    return "many" if isinstance(body, dict) and "jobs" in body else "one"


Submission = Annotated[Annotated[NewJob, Tag("one")] | Annotated[NewJobs, Tag("many")], Discriminator(_which)]


class Submitted(BaseModel):
    """A job that is in the ledger.

    `created` is false when an equal `unique_key` was queued or running: its id is here.
    """

    id: UUID
    kind: str
    queue: str
    created: bool


class SubmittedMany(BaseModel):
    """The answers in the order of the jobs sent."""

    jobs: list[Submitted]


class JobVerdict(BaseModel):
    """What became of a request to cancel or retry."""

    id: UUID
    verdict: str
    status: str | None


class JobLine(BaseModel):
    """A job in a list. `known` (queued jobs only): whether a live worker knows its kind."""

    id: UUID
    queue: str
    kind: str
    status: str
    attempts: int
    max_attempts: int
    lease: int
    run_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    error: str | None
    known: bool | None


class JobPage(BaseModel):
    """One page of jobs, newest first; `next` is the address of the following one."""

    jobs: list[JobLine]
    next: str | None
