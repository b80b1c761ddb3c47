"""`holdfast jobs` over a ledger with jobs in every state."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.app import new_id
from tests.cli.command import Answer, in_terminal
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, advance, cancel, claim_one, enqueue, mark_gone, register, rescue, seconds, settle

ERROR = {"type": "ValueError", "message": "no such \x1b[31mthing\nsecond line", "traceback": "Traceback\nValueError: x"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def jobs(database: str, folder: Path, *args: str) -> Answer:
    return holdfast("jobs", *args, cwd=folder, DATABASE_URL=database)


def as_json(database: str, folder: Path, *args: str) -> Any:
    answer = json.loads(jobs(database, folder, *args, "--json").out)
    assert answer["schema"] == 1
    return answer


def line_of(text: str, job_id: UUID) -> str:
    (line,) = [line for line in text.splitlines() if str(job_id) in line]
    return line


def add(conn: Session, **given: Any) -> UUID:
    return enqueue(conn, id=new_id(), **given)


def run(conn: Session, outcome: str, **given: Any) -> UUID:
    """A job that a worker has run to this outcome."""
    worker = register(conn, queues=["default"], kinds=["report"], slots=1)
    job_id = add(conn, max_attempts=1)
    settle(conn, worker, claim_one(conn, worker), outcome, **given)
    mark_gone(conn, worker, reason="stopped")
    return job_id


def test_an_empty_ledger_has_no_jobs(database: str, folder: Path) -> None:
    assert jobs(database, folder, "list").out == "no jobs yet\n"
    assert jobs(database, folder, "list", "--status", "dead").out == "no jobs match\n"
    assert as_json(database, folder, "list") == {"schema": 1, "jobs": [], "next_before": None}


def test_a_list_says_where_each_job_stands(database: str, conn: Session, folder: Path) -> None:
    succeeded = run(conn, "complete", result=1)
    dead = run(conn, "fail", error=ERROR)
    worker = register(conn, queues=["default"], kinds=["report"], slots=1)
    running = add(conn)
    claim_one(conn, worker)
    due, later, unknown = add(conn), add(conn, delay=3600), add(conn, kind="nobody.knows")
    cancelled = add(conn)
    cancel(conn, cancelled)
    out = jobs(database, folder, "list").out
    assert out.splitlines()[0].split() == ["ID", "KIND", "QUEUE", "TRIES", "AGE", "STATUS"]
    assert "succeeded " in line_of(out, succeeded)
    assert "no such \N{REPLACEMENT CHARACTER}[31mthing" in line_of(out, dead)
    assert "1/1" in line_of(out, dead)
    assert "running for " in line_of(out, running)
    assert "queued and due for " in line_of(out, due)
    assert "queued, due in " in line_of(out, later)
    assert "queued (no worker knows this kind)" in line_of(out, unknown)
    assert "cancelled " in line_of(out, cancelled)
    assert "\x1b" not in out


def test_a_list_is_filtered(database: str, conn: Session, folder: Path) -> None:
    mail, _, other = add(conn, kind="mail"), add(conn), add(conn, queue="other")
    cancel(conn, other)

    def ids(*args: str) -> list[str]:
        return [job["id"] for job in as_json(database, folder, "list", *args)["jobs"]]

    assert ids("--kind", "mail") == [str(mail)]
    assert ids("--queue", "other") == ids("--status", "cancelled") == [str(other)]
    wrong = jobs(database, folder, "list", "--status", "ded")
    assert (wrong.code, "'ded' is not one of 'queued'" in wrong.err) == (2, True)


def test_a_list_is_paged(database: str, conn: Session, folder: Path) -> None:
    ids = [str(add(conn, kind="it's")) for _ in range(5)][::-1]
    first = as_json(database, folder, "list", "--limit", "2")
    assert [job["id"] for job in first["jobs"]] == ids[:2]
    second = as_json(database, folder, "list", "--limit", "3", "--before", first["next_before"])
    assert [job["id"] for job in second["jobs"]] == ids[2:]
    assert second["next_before"] is None
    hint = jobs(database, folder, "list", "--limit", "2", "--kind", "it's").out.splitlines()[-1]
    assert hint == f"more: holdfast jobs list --kind 'it'\"'\"'s' --limit 2 --before {ids[1]}"


def test_a_narrow_terminal_never_cuts_an_id(database: str, conn: Session, folder: Path) -> None:
    job_id = add(conn, kind="a.kind.with.a.long.name", queue="a-queue-with-a-long-name")
    wide = in_terminal("jobs", "list", cwd=folder, DATABASE_URL=database, COLUMNS="150", NO_COLOR="1")
    narrow = in_terminal("jobs", "list", cwd=folder, DATABASE_URL=database, COLUMNS="70", NO_COLOR="1")
    assert "a.kind.with.a.long.name  a-queue-with-a-long-name" in line_of(wide, job_id)
    assert line_of(narrow, job_id).startswith(str(job_id))
    assert all(len(line) <= 70 for line in narrow.splitlines())


def test_a_job_is_shown_with_its_error_and_its_story(database: str, conn: Session, folder: Path) -> None:
    job_id = run(conn, "fail", error=ERROR, fingerprint="ValueError:1")
    out = jobs(database, folder, "show", str(job_id)).out
    story = [out.index(words) for words in ("created", "claimed  lease 1", "attempt 1 failed: ValueError", " dead\n")]
    assert story == sorted(story)
    assert "  ValueError: x\n" in out
    assert "1 of 1 failed" in out
    assert "\x1b" not in out


def test_a_crash_and_a_retry_are_in_the_story(database: str, conn: Session, folder: Path) -> None:
    worker = register(conn, queues=["default"], kinds=["report"], slots=1)
    job_id = add(conn, args={"n": 7})
    claim_one(conn, worker)
    advance(conn, seconds(1))
    mark_gone(conn, worker)
    rescue(conn)
    cancel(conn, job_id)
    assert jobs(database, folder, "retry", str(job_id)).code == 0
    story = as_json(database, folder, "show", str(job_id))
    assert [moment["event"] for moment in story["timeline"]] == ["created", "claimed", "crash", "redrive"]
    assert [moment["lease"] for moment in story["timeline"]] == [None, 1, 1, 3]
    assert story["job"]["status"] == "queued"
    assert story["job"]["args"] == {"n": 7}
    assert story["job"]["timeout"] == 3600.0
    out = jobs(database, folder, "show", str(job_id)).out
    assert "its process crashed" in out
    assert "queued again at once" in out
    assert "retried by hand; it was cancelled" in out


def test_a_result_is_shown(database: str, conn: Session, folder: Path) -> None:
    out = jobs(database, folder, "show", str(run(conn, "complete", result={"pages": 3}))).out
    assert 'Result\n  {\n    "pages": 3\n  }\n' in out


def test_a_job_that_is_not_there_is_said_to_be_missing(database: str, folder: Path) -> None:
    answer = jobs(database, folder, "show", str(uuid4()))
    assert answer.code == 1
    assert answer.err.startswith("error: no job has the id ")


@pytest.mark.parametrize("command", [("show",), ("retry",), ("cancel",), ("list", "--before")])
def test_what_is_no_uuid_is_refused_with_an_example(command: tuple[str, ...], folder: Path) -> None:
    answer = holdfast("jobs", *command, "12", cwd=folder)
    assert answer.code == 2
    assert "'12' is not a job's id, which is a UUID like 01a2b3c4-" in answer.err


def test_retry_gives_a_verdict_for_each(database: str, conn: Session, folder: Path) -> None:
    dead, succeeded, missing = run(conn, "fail", error=ERROR), run(conn, "complete"), uuid4()
    answer = jobs(database, folder, "retry", *(str(each) for each in (dead, succeeded, missing)))
    assert answer.code == 1
    assert "queued again" in line_of(answer.out, dead)
    assert "refused: it succeeded" in line_of(answer.out, succeeded)
    assert "not found" in line_of(answer.out, missing)


def test_cancel_gives_a_verdict_for_each(database: str, conn: Session, folder: Path) -> None:
    worker = register(conn, queues=["default"], kinds=["report"], slots=1)
    running = add(conn)
    claim_one(conn, worker)
    queued = add(conn)
    answer = as_json(database, folder, "cancel", str(running), str(queued))
    assert answer["accepted"] is True
    assert {job["id"]: job["verdict"] for job in answer["jobs"]} == {
        str(running): "requested",
        str(queued): "cancelled",
    }
    again = jobs(database, folder, "cancel", str(queued))
    assert (again.code, "it is cancelled already" in again.out) == (0, True)


def test_cancelling_what_has_ended_is_refused(database: str, conn: Session, folder: Path) -> None:
    job_id = run(conn, "complete")
    answer = jobs(database, folder, "cancel", str(job_id))
    assert (answer.code, "it is succeeded already" in answer.out) == (1, True)
