"""`holdfast queues`: what is in them; a paused one starts no job, in any worker."""

import json
from pathlib import Path
from typing import Any

from tests.cli.command import Answer
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, advance, claim, enqueue, register, seconds


def queues(database: str, folder: Path, *args: str) -> Answer:
    return holdfast("queues", *args, cwd=folder, DATABASE_URL=database)


def lines(answer: Answer) -> list[list[str]]:
    return [line.split() for line in answer.out.splitlines()]


def test_queues_are_listed_with_what_is_in_them(database: str, conn: Session, tmp_path: Path) -> None:
    assert queues(database, tmp_path, "list").out == "no queues yet\n"
    register(conn, queues=["mail", "idle"])
    for delay in (0, 0, 60):
        enqueue(conn, queue="mail", delay=delay)
    enqueue(conn, queue="orphan", kind="other")
    advance(conn, seconds(30))
    claim(conn, register(conn, queues=["mail"]), 1, queues=["mail"])
    assert lines(queues(database, tmp_path, "list")) == [
        ["QUEUE", "DUE", "LATER", "RUNNING", "WORKERS", "STATUS"],
        ["idle", "0", "0", "0", "1"],
        ["mail", "1", "1", "1", "2", "oldest", "due", "30", "s", "ago"],
        ["orphan", "1", "0", "0", "0", "no", "worker", "serves", "it"],
    ]
    listed: Any = json.loads(queues(database, tmp_path, "list", "--json").out)
    assert listed["schema"] == 1
    assert [each["name"] for each in listed["queues"]] == ["idle", "mail", "orphan"]


def test_a_paused_queue_gives_no_job_until_it_is_resumed(database: str, conn: Session, tmp_path: Path) -> None:
    enqueue(conn, queue="mail")
    enqueue(conn, queue="other")
    worker = register(conn)
    paused = queues(database, tmp_path, "pause", "mail", "never-seen")
    assert (paused.code, lines(paused)) == (0, [["mail", "paused"], ["never-seen", "paused"]])
    assert [run["queue"] for run in claim(conn, worker, 5, queues=["mail", "other"])] == ["other"]
    assert ["mail", "1", "0", "0", "0", "paused"] in lines(queues(database, tmp_path, "list"))
    resumed = queues(database, tmp_path, "resume", "mail", "--json")
    assert json.loads(resumed.out)["queues"] == [{"name": "mail", "paused": False}]
    assert [run["queue"] for run in claim(conn, worker, 5, queues=["mail", "other"])] == ["mail"]


def test_a_name_that_no_queue_can_have_is_refused(tmp_path: Path) -> None:
    answer = holdfast("queues", "pause", "", cwd=tmp_path)
    assert answer.code == 2
    assert "cannot be a queue's name" in " ".join(answer.err.split())
