"""What a message in a dead-letter queue was about: as much as can be read off it without knowing whose it is.

Programs put the name of the job, its id and the error into their messages under a few usual names, in the body (JSON)
or in the attributes; services of AWS have theirs. Nothing of it is certain, so all of it is optional. What is found is
told to people outside, so only what looks like a name in a program is taken: no sentence, no address, nothing with a
space.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from holdfast.core.fingerprint import fingerprint

_KIND = (
    "kind",
    "type",
    "task",
    "job",
    "job_type",
    "jobType",
    "event",
    "event_type",
    "eventType",
    "detail-type",
)
_ID = ("job_id", "jobId", "JobId", "holdfast_job_id")
_ERROR_TYPE = ("error_type", "errorType", "ERROR_CODE", "ErrorCode", "exception_class", "exception")
_ERROR_TEXT = ("error_message", "errorMessage", "ERROR_MESSAGE", "ErrorMessage", "error", "reason")
#: `app.tasks.send_mail`, `order:placed`, `429`, an id; not a card's number.
_NAME = re.compile(r"(?!\d{11,}$)[\w$][\w.:/$-]{0,119}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Dead letters of one cause. `source`: job or sqs; `untold`: nobody was told of them yet; counts go to 10,000."""

    fingerprint: str
    queue: str | None
    source: str | None
    kind: str | None
    cause: str | None
    untold: int
    present: int
    oldest_at: datetime | None
    sample_job_id: str | None


@dataclass(frozen=True)
class Letter:
    """What was found: the `kind` of job, the error's type as `cause`, and the fingerprint that groups equal ones."""

    kind: str
    cause: str
    job_id: str | None
    fingerprint: str


def describe(queue: str, body: str, attributes: Mapping[str, str], identity: str | None = None) -> Letter:
    """Read a message. `identity`: the name of the attribute, or field of the body, that says which job it is about.

    >>> describe("orders-dlq", '{"type": "ship", "errorType": "Timeout"}', {}).cause
    'Timeout'
    """
    fields = {**_object(body), **attributes}
    inner = fields.get("error")
    if isinstance(inner, dict):
        fields = {**fields, "error": inner.get("message"), "error_type": inner.get("type") or inner.get("name")}
    headers = fields.get("headers")
    if isinstance(headers, dict):
        named = {"job_id": headers.get("id")} if "task" in headers else {}  # Celery's
        fields = {**headers, **named, **fields}
    kind = _first(fields, _KIND)
    cause = _first(fields, _ERROR_TYPE)
    text = _first(fields, _ERROR_TEXT, is_text=True)
    id = _first(fields, (identity,)) if identity else _first(fields, _ID)
    return Letter(kind, cause, id or None, fingerprint(kind, cause or "letter", text, [queue]))


def _object(body: str) -> dict[str, Any]:
    """The body as JSON, also where it was put into base64 once more, as Celery does for SQS."""
    found = _json(body)
    if found is None and len(body) % 4 == 0:
        try:
            found = _json(base64.b64decode(body, validate=True).decode())
        except (binascii.Error, ValueError):
            return {}
    return found if isinstance(found, dict) else {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _first(fields: Mapping[str, Any], names: tuple[str, ...], *, is_text: bool = False) -> str:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            found = str(value).strip()
            return found if is_text else _name(found)
    return ""


def _name(text: str) -> str:
    """`ValueError` of "ValueError: no such user": what is quoted behind it stays here."""
    name = text.partition(": ")[0]
    return name if _NAME.fullmatch(name) else ""
