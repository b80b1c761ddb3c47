"""Dead letters as people see them."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from holdfast.cli.output import clean, first_line, relative, show, table
from holdfast.core import telling
from holdfast.postgres.dead_letters import DeadLetterQueue
from holdfast.postgres.redrives import LetterCause, LetterLife, LetterLine, LetterPage


def show_letters(found: Sequence[LetterLine], now: datetime) -> None:
    """As a table."""
    page = table("ID", "WHAT", "CAUSE", "WHERE", "FOUND", "")
    for row in found:
        facts = [f"job {row.job_id}"] if row.source == "job" else []
        facts += [f"came back {row.returns} times"] if row.returns else []
        facts += [row.outcome or "gone"] if row.gone_at else []
        cells = (str(row.id), row.kind or "?", row.cause or "-", row.queue, relative(row.first_seen_at, now))
        page.add_row(*(Text(clean(cell)) for cell in (*cells, ", ".join(facts))))
    show(page)


def show_queues(found: Sequence[DeadLetterQueue], now: datetime) -> None:
    """As a table: mode, when each was looked at, what is wrong with it, and when its oldest message is lost."""
    page = table("QUEUE", "MODE", "MESSAGES", "LOOKED AT", "LOST", "")
    page.columns[-1].no_wrap = False
    for row in found:
        mode = "capture" if row.captured else "count" if row.only_counted else "observe"
        looked = "never" if row.looked_at is None else relative(row.looked_at, now)
        lost = "-" if row.expires_at is None else relative(row.expires_at, now)
        facts = [f"blind for {span(row.blind_since, now)}: {row.error}"] if row.blind_since else []
        facts += [row.only_counted] if row.only_counted else []
        facts += ["nobody watches it any more"] if row.is_abandoned else []
        count = "?" if row.messages is None else f"{row.messages:,}"
        page.add_row(*(Text(clean(cell)) for cell in (row.name, mode, count, looked, lost, "; ".join(facts))))
    show(page)


def show_lives(lives: Sequence[LetterLife], now: datetime) -> None:
    """The redrives of a letter and of its earlier lives, if there were any."""
    tried = [life for life in lives if life.redrive_id is not None and life.at is not None]
    if tried:
        page = table("REDRIVEN", "BY", "OUTCOME", "")
        for life in tried:
            assert life.at is not None
            cells = (relative(life.at, now), life.requested_by or "", life.status or "", life.detail or "")
            page.add_row(*(Text(clean(cell)) for cell in cells))
        show("", page)


def show_groups(found: Sequence[LetterCause], now: datetime) -> None:
    """As a table, by cause."""
    page = table("LETTERS", "WHAT", "CAUSE", "WHERE", "OLDEST", "GROUP", "")
    page.columns[0].justify = "right"
    for row in found:
        facts = [f"{row.returned:,} came back"] if row.returned else []
        facts += [f"{row.quarantined:,} in quarantine"] if row.quarantined else []
        where = row.queue if row.source == "sqs" else f"{row.queue} (jobs)"
        cells = (
            row.kind or "?",
            row.cause or "-",
            where,
            relative(row.oldest_at, now),
            row.fingerprint,
            ", ".join(facts),
        )
        page.add_row(f"{row.letters:,}", *(Text(clean(cell)) for cell in cells))
    show(page)


def facts_of(letter: LetterPage, now: datetime) -> list[tuple[str, str]]:
    """What is known of one letter: names and values, which may be empty."""
    job, error = letter.job_status is not None, letter.job_error or {}
    decided = "" if letter.outcome is None else f"{letter.outcome} by {letter.outcome_by or '?'}"
    kept = "whole, and deleted from SQS" if letter.captured_at else "a copy; it is still in its queue"
    return [
        ("id", str(letter.id)),
        ("what", letter.kind or "not known"),
        ("cause", letter.cause or "not known"),
        ("where", letter.queue),
        ("group", letter.fingerprint),
        ("job", letter.job_id or ""),
        ("found", relative(letter.first_seen_at, now)),
        ("sent", "" if letter.sent_at is None else relative(letter.sent_at, now)),
        ("gone", "" if letter.gone_at is None else relative(letter.gone_at, now)),
        ("decided", f"{decided}: {letter.outcome_reason}" if letter.outcome_reason else decided),
        ("came back", f"{letter.returns} times" if letter.returns else ""),
        ("received", f"{letter.received} times" if letter.source == "sqs" else ""),
        ("kept", kept if letter.source == "sqs" else ""),
        ("job's status", letter.job_status or ""),
        ("attempts", f"{letter.job_attempts}, and {letter.job_crashes} crashes" if job else ""),
        ("last heartbeat", "" if letter.job_heartbeat_at is None else relative(letter.job_heartbeat_at, now)),
        ("worker", str(letter.job_worker or "")),
        ("error", first_line(f"{error.get('type', '')}: {error.get('message', '')}") if error else ""),
        ("traceback", str(error.get("traceback") or "").rstrip()),
    ]


def span(since: datetime, now: datetime) -> str:
    """How long it lasts."""
    return telling.span((now - since).total_seconds())


def left_out(quarantined: int, busy: int) -> str:
    """What a redrive leaves out, and why."""
    parts = [f"{quarantined:,} in quarantine"] if quarantined else []
    parts += [f"{busy:,} in another redrive"] if busy else []
    return f"; left out: {', '.join(parts)}" if parts else ""


def how_many(count: int) -> str:
    """A number of letters, in words."""
    return f"{count:,} letter{'s' * (count != 1)}"
