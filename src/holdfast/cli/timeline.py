"""One job's story for `holdfast jobs show`: its row in words, and what happened to it in order."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from holdfast.cli.output import clean, first_line, pairs, relative, span
from holdfast.postgres.reads import JobRow
from holdfast.services.story import Moment

_RESCUES = {
    "worker_gone": "its worker was gone",
    "deadline_passed": "it was past its deadline",
    "claim_lost": "its worker never got it",
    "no_heartbeat": "it gave no sign of life",
}
_STYLES = {"failure": "yellow", "crash": "red", "rescue": "yellow", "fenced_late_write": "magenta", "finished": "bold"}
_MOST_JSON = 4_000


def describe_job(job: JobRow, status: RenderableType, moments: Sequence[Moment], now: datetime) -> list[RenderableType]:
    """The whole page, part by part."""
    parts: list[RenderableType] = [Text(clean(job.kind), "bold"), pairs(_facts(job, status, now))]
    parts += _section("Timeline", pairs([(relative(moment.at, now), _words(moment, now)) for moment in moments]))
    parts += _section("Arguments", _json(job.args))
    if job.progress is not None:
        parts += _section("Progress", _json(job.progress))
    if job.status == "succeeded":
        parts += _section("Result", _json(job.result))
    if job.error:
        trace = job.error.get("traceback") or f"{job.error.get('type')}: {job.error.get('message')}"
        parts += _section("Error" if job.status == "dead" else "Last error", _indented(str(trace)))
    return parts


def _facts(job: JobRow, status: RenderableType, now: datetime) -> list[tuple[str, RenderableType]]:
    """What is always there, then what is out of the ordinary."""
    optional = {
        "crashes": f"{job.crashes} of {job.max_crashes}, alone in quarantine" if job.crashes else "",
        "suspect": "yes: it runs alone in quarantine" if job.suspect else "",
        "rescues": str(job.rescues or ""),
        "cancel": "requested" if job.cancel_requested_at and job.finished_at is None else "",
        "priority": str(job.priority or ""),
        "unique key": job.unique_key or "",
        "group": job.group_key or "",
        "limit": f"{job.limit_max} at a time under {job.limit_key}" if job.limit_key else "",
        "worker": str(job.worker_id) if job.worker_id and job.status == "running" else "",
        "heartbeat": relative(job.heartbeat_at, now) if job.heartbeat_at and job.status == "running" else "",
        "deadline": relative(job.deadline_at, now) if job.deadline_at and job.status == "running" else "",
        "timeout": span(job.timeout.total_seconds()) if job.timeout else "none",
        "on rescue": "ends dead: it must not run twice" if job.rescue_policy == "dead" else "",
        "fingerprint": job.fingerprint or "",
    }
    always: list[tuple[str, RenderableType]] = [
        ("id", str(job.id)),
        ("status", status),
        ("queue", Text(clean(job.queue))),
        ("attempts", f"{job.attempts} of {job.max_attempts} failed"),
        ("lease", str(job.lease)),
    ]
    return always + [(name, Text(clean(value))) for name, value in optional.items() if value]


def _words(moment: Moment, now: datetime) -> Text:
    """A moment as a sentence; how, after a failure or rescue, it goes on."""
    details = moment.details
    match moment.event:
        case "failure":
            error = details.get("error") or {}
            what = f"attempt {details.get('attempt')} failed: {error.get('type')}: {error.get('message')}"
        case "crash":
            what = "its process crashed" + (", alone in quarantine" if details.get("alone") else "")
        case "rescue":
            what = f"rescued: {_RESCUES.get(moment.reason or '', moment.reason)}"
        case "snooze":
            what = "snoozed"
        case "redrive":
            what = f"retried by hand; it was {details.get('was')}"
        case "fenced_late_write":
            what = "a late write of an earlier run was fenced off"
        case "cancel_requested":
            what = "asked to be cancelled"
        case "finished":
            what = str(moment.reason)
        case _:
            what = moment.event
    text = Text(first_line(what), _STYLES.get(moment.event, ""))
    return text.append(_whose(moment) + _what_next(moment, now), "dim")


def _whose(moment: Moment) -> str:
    worker = f", worker …{str(moment.worker_id)[-8:]}" if moment.worker_id else ""
    return f"  lease {moment.lease}{worker}" if moment.lease is not None else ""


def _what_next(moment: Moment, now: datetime) -> str:
    if moment.event not in ("failure", "crash", "rescue", "snooze"):
        return ""
    status, run_at = moment.details.get("status"), moment.details.get("run_at")
    if status == "queued" and isinstance(run_at, str):
        wait = (datetime.fromisoformat(run_at) - moment.at).total_seconds()
        after = f" again {span(wait)} later" if wait >= 1 else " again at once"
        suspect = " as a suspect" if moment.details.get("suspect") else ""
        return f", queued{suspect}{after}"
    return f", {status}" if status else ""


def _section(title: str, body: RenderableType) -> list[RenderableType]:
    return ["", Text(title, "bold"), body]


def _json(value: Any) -> RenderableType:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    cut = text if len(text) <= _MOST_JSON else f"{text[:_MOST_JSON]}\n… {len(text):,} characters; all of it: --json"
    return _indented(cut)


def _indented(text: str) -> RenderableType:
    return Padding(Text(clean(text.rstrip("\n"))), (0, 0, 0, 2))
