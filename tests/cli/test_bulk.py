"""`holdfast jobs retry|cancel` by filter: look first, ask, and touch nothing else."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.app import new_id
from holdfast.cli.bulk import BATCH
from tests.cli.command import Answer, answer_in_terminal
from tests.cli.command import holdfast_here as holdfast
from tests.support import Session, advance, cancel, claim, enqueue, enqueue_many, register, rows, seconds, settle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def jobs(database: str, folder: Path, *args: str) -> Answer:
    return holdfast("jobs", *args, cwd=folder, DATABASE_URL=database)


def as_json(database: str, folder: Path, *args: str) -> Any:
    answer = json.loads(jobs(database, folder, *args, "--json").out)
    assert answer.pop("schema") == 1
    return answer


def dead(conn: Session, count: int = 1, *, message: str = "no such thing", **given: Any) -> list[UUID]:
    ids = [enqueue(conn, id=new_id(), **given) for _ in range(count)]
    worker = register(conn)
    for run in claim(conn, worker, count, queues=[given.get("queue", "default")], kinds=[given.get("kind", "report")]):
        settle(conn, worker, run, "fail", error={"type": "ValueError", "message": message})
    return ids


def status(conn: Session) -> dict[UUID, str]:
    return {each["id"]: each["status"] for each in rows(conn, "SELECT id, status FROM holdfast.jobs")}


def test_a_dry_run_shows_what_matches_and_changes_nothing(database: str, conn: Session, folder: Path) -> None:
    dead(conn, 3, kind="mail", queue="post")
    dead(conn, 1, kind="mail")
    dead(conn, 2)
    before = status(conn)
    out = jobs(database, folder, "retry", "--kind", "mail", "--dry-run").out.splitlines()
    assert [line.split()[:4] for line in out[:3]] == [
        ["JOBS", "KIND", "QUEUE", "STATUS"],
        ["3", "mail", "post", "dead"],
        ["1", "mail", "default", "dead"],
    ]
    assert out[-1] == "4 jobs to retry"
    preview = as_json(database, folder, "retry", "--kind", "mail", "--dry-run")
    assert (preview["matching"], preview["dry_run"], len(preview["groups"])) == (4, True, 2)
    assert status(conn) == before


def test_without_a_terminal_nothing_happens_without_consent(database: str, conn: Session, folder: Path) -> None:
    dead(conn, 2)
    answer = jobs(database, folder, "retry", "--status", "dead")
    assert (answer.code, answer.out) == (2, "")
    assert "this would retry 2 jobs; add --yes to do it, or --dry-run to look at them" in " ".join(answer.err.split())
    assert set(status(conn).values()) == {"dead"}


def test_in_a_terminal_it_asks(database: str, conn: Session, folder: Path) -> None:
    dead(conn, 2)
    words = ("jobs", "retry", "--status", "dead")
    heard, code = answer_in_terminal("n\n", *words, cwd=folder, DATABASE_URL=database)
    assert "2 jobs to retry" in heard
    assert "Retry them? [y/N]" in heard
    assert (code, set(status(conn).values())) == (1, {"dead"})
    heard, code = answer_in_terminal("y\n", *words, cwd=folder, DATABASE_URL=database)
    assert "retried 2 jobs" in heard
    assert (code, set(status(conn).values())) == (0, {"queued"})


def test_more_jobs_than_a_batch_are_all_retried_and_others_are_not(database: str, conn: Session, folder: Path) -> None:
    wanted = set(dead(conn, 2 * BATCH + 7, kind="mail", message="Connection REFUSED by peer"))
    others = set(dead(conn, 3, kind="mail")) | set(dead(conn, 3, message="connection refused"))
    answer = jobs(database, folder, "retry", "--kind", "mail", "--error", "connection refused", "--yes")
    assert (answer.code, answer.out) == (0, f"retried {2 * BATCH + 7} jobs\n")
    found = status(conn)
    assert {found[each] for each in wanted} == {"queued"}
    assert {found[each] for each in others} == {"dead"}


def test_what_cannot_be_retried_is_counted_by_its_reason(database: str, conn: Session, folder: Path) -> None:
    dead(conn, 1, unique_key="one")
    enqueue(conn, id=new_id(), unique_key="one")
    answer = jobs(database, folder, "retry", "--key", "one", "--yes")
    assert (answer.code, answer.out) == (1, "retried 0 jobs\n1 job refused: another job holds its unique key now\n")
    assert as_json(database, folder, "retry", "--key", "one", "--yes") == {
        "accepted": False,
        "verdicts": {"unique_taken": 1},
    }


def test_cancel_takes_queued_and_running_ones(database: str, conn: Session, folder: Path) -> None:
    enqueue_many(conn, [new_id() for _ in range(5)], queue="post")
    claim(conn, register(conn), 2, queues=["post"])
    finished = dead(conn, 1)
    assert as_json(database, folder, "cancel", "--queue", "post", "--yes") == {
        "accepted": True,
        "verdicts": {"cancelled": 3, "requested": 2},
    }
    assert sorted(status(conn).values()) == ["cancelled"] * 3 + ["dead"] + ["running"] * 2
    assert status(conn)[finished[0]] == "dead"


def test_jobs_are_chosen_by_their_age(database: str, conn: Session, folder: Path) -> None:
    old = enqueue(conn, id=new_id())
    advance(conn, seconds(7200))
    new = enqueue(conn, id=new_id())

    def ids(*args: str) -> list[str]:
        return [job["id"] for job in as_json(database, folder, "list", *args)["jobs"]]

    assert ids("--older", "1h") == [str(old)]
    assert ids("--newer", "1.5h") == [str(new)]
    jobs(database, folder, "cancel", "--older", "90min", "--yes")
    assert status(conn) == {old: "cancelled", new: "queued"}


def test_a_list_is_filtered_by_error_and_key(database: str, conn: Session, folder: Path) -> None:
    (failed,) = dead(conn, 1, message="disk FULL")
    keyed = enqueue(conn, id=new_id(), group_key="ann")
    cancel(conn, keyed)
    for words, expected in (
        (("--error", "disk full"), failed),
        (("--error", "valueerror"), failed),
        (("--key", "ann"), keyed),
    ):
        assert [job["id"] for job in as_json(database, folder, "list", *words)["jobs"]] == [str(expected)]
    hint = jobs(database, folder, "list", "--older", "0s", "--limit", "1").out.splitlines()[-1]
    assert "--older 0s --limit 1 --before" in hint


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("retry",), "which jobs to retry?"),
        (("cancel", "--yes"), "which jobs to cancel?"),
        (("retry", "0192f000-0000-7000-8000-000000000000", "--kind", "mail"), "give ids or a filter, not both"),
        (("retry", "--newer", "soon"), "'soon' is no span of time"),
        (("retry", "--status", "running"), "'running' is not one of 'dead', 'cancelled'"),
    ],
)
def test_a_riddle_is_refused(words: tuple[str, ...], complaint: str, folder: Path) -> None:
    answer = holdfast("jobs", *words, cwd=folder)
    assert answer.code == 2
    assert complaint in " ".join(answer.err.split())


def test_nothing_to_do_is_said(database: str, folder: Path) -> None:
    answer = jobs(database, folder, "retry", "--kind", "mail", "--yes")
    assert (answer.code, answer.out) == (0, "no jobs match that one could retry\n")
