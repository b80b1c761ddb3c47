"""How health is judged: each check made to pass, to warn and to fail."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.core.health import (
    FROM_REPORT,
    Check,
    Ended,
    Incident,
    Ledger,
    Limiter,
    Limits,
    Monitor,
    Notifications,
    Postgres,
    Process,
    Queue,
    Report,
    SqsQueue,
    Stale,
    Status,
    UnknownKind,
    Workers,
    judge,
    worst,
)

QUEUE = Queue("mail", False, 3, 2, 1, 8, 1.0, 0.5)
SWEEPS = Monitor("rescue_stale_jobs", 5.0, 2.0, False, {})
GOOD = Report(
    clock=datetime(2026, 1, 1, tzinfo=UTC),
    postgres=Postgres(18, 12, 100, 0.1),
    workers=Workers(live=1, silent=0, draining=0, slots=10, longest_lag=0.01),
    queues=(QUEUE,),
    unknown_kinds=(),
    running=2,
    ended=Ended(100, 100, 0, 0, 60.0, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)),
    stale=Stale(0, {}),
    dead=0,
    monitors=(SWEEPS,),
    notifications=Notifications(0, 0, 0.0, None),
    incidents=(),
    rate_limits=(),
)
ANSWERS = Ledger(None, 0.002)


def check(name: str, report: Report | None = GOOD, ledger: Ledger = ANSWERS, **process: Any) -> Check:
    checks = judge(ledger, report, 1.0, Process(**process), Limits())
    return next(each for each in checks if each.name == name)


def with_queue(**changes: Any) -> Report:
    return replace(GOOD, queues=(replace(QUEUE, **changes),))


def test_what_is_well_passes_without_a_word() -> None:
    checks = judge(ANSWERS, GOOD, 1.0, Process(limiter=Limiter("postgres")), Limits())
    assert worst(checks) is Status.PASS
    assert {each.output for each in checks} == {""}


@pytest.mark.parametrize(
    ("name", "report", "status", "said"),
    [
        ("database", replace(GOOD, postgres=Postgres(18, 95, 100, 0)), "warn", "95 of 100 connections are taken"),
        ("database", replace(GOOD, postgres=Postgres(18, 1, 100, 400)), "warn", "open for 400 s"),
        ("workers", replace(GOOD, workers=Workers(0, 0, 0, 0, 0)), "warn", "no worker lives"),
        (
            "workers",
            replace(with_queue(due_for=16.0), workers=Workers(0, 0, 0, 0, 0)),
            "fail",
            "no worker lives, and jobs are due",
        ),
        (
            "workers",
            replace(with_queue(due_for=None), workers=Workers(0, 0, 0, 0, 0)),
            "warn",
            "no worker lives",
        ),
        (
            "workers",
            replace(with_queue(paused=True), workers=Workers(0, 0, 0, 0, 0)),
            "warn",
            "no worker lives",
        ),
        ("workers", replace(GOOD, workers=Workers(1, 2, 0, 10, 0)), "warn", "2 gave no sign of life"),
        ("workers", replace(GOOD, workers=Workers(1, 0, 0, 10, 9)), "warn", "an event loop lags 9 s"),
        (
            "queues",
            with_queue(due_for=90.0, workers=0),
            "fail",
            "mail: a job has been due for 90 s, and no worker serves",
        ),
        ("queues", with_queue(due_for=90.0, asked_ago=80.0), "fail", "no worker asks for it"),
        ("queues", with_queue(due_for=90.0, asked_ago=None), "fail", "no worker asks for it"),
        ("queues", with_queue(due_for=90.0, asked_ago=80.0, room=0), "pass", ""),
        ("queues", with_queue(due_for=400.0), "warn", "mail: a job has been due for 400 s"),
        ("queues", with_queue(due_for=9000.0, workers=0, paused=True), "pass", ""),
        ("queues", replace(GOOD, unknown_kinds=(UnknownKind("mail", "sned", 90),)), "warn", "knows kind 'sned'"),
        ("queues", replace(GOOD, unknown_kinds=(UnknownKind("mail", "sned", 9),)), "pass", ""),
        ("jobs", replace(GOOD, ended=Ended(20, 9, 11, 0, 1, None, None)), "warn", "11 of the last 20 jobs ended dead"),
        ("jobs", replace(GOOD, ended=Ended(19, 0, 19, 0, 1, None, None)), "pass", ""),
        ("stale_jobs", replace(GOOD, stale=Stale(3, {"worker_gone": 3})), "warn", "3 running jobs are stuck: 3 worker"),
        ("dead_letters", replace(GOOD, ended=Ended(20, 19, 1, 0, 1, None, None)), "warn", "1 jobs ended dead within"),
        ("monitors", replace(GOOD, monitors=(replace(SWEEPS, swept_ago=21.0),)), "warn", "swept last 21 s ago"),
        ("monitors", replace(GOOD, monitors=(replace(SWEEPS, swept_ago=81.0),)), "fail", "meant to sweep each 5 s"),
        ("monitors", replace(GOOD, monitors=(replace(SWEEPS, swept_ago=None),)), "fail", "has never swept"),
        ("monitors", replace(GOOD, monitors=(replace(SWEEPS, every=None),)), "fail", "no monitor has ever swept"),
        ("monitors", replace(GOOD, monitors=(replace(SWEEPS, is_held=True),)), "warn", "the brake holds"),
        (
            "notifications",
            replace(GOOD, notifications=Notifications(3, 1, 9.0, "Slack refuses")),
            "warn",
            "Slack refuses",
        ),
        ("notifications", replace(GOOD, notifications=Notifications(3, 0, 200.0, None)), "warn", "nobody delivers"),
        ("notifications", replace(GOOD, notifications=Notifications(3, 0, 9.0, None)), "pass", ""),
        (
            "incidents",
            replace(GOOD, incidents=(Incident("x", "2 jobs died", 600),)),
            "warn",
            "2 jobs died, open for 10",
        ),
    ],
)
def test_each_check_says_what_is_wrong(name: str, report: Report, status: str, said: str) -> None:
    found = check(name, report)
    assert (found.status, said in found.output) == (status, True), found
    assert bool(found.output) is (status != "pass")


def test_a_database_that_does_not_answer_fails_and_a_slow_one_warns() -> None:
    assert check("database", ledger=Ledger("it does not answer", None)).status is Status.FAIL
    assert check("database", ledger=Ledger(None, 0.8)).output == "it took 800 ms to answer"


def test_a_queue_of_sqs_that_cannot_be_asked_fails_the_queues() -> None:
    found = check("queues", sqs=(SqsQueue("bells", "bells", "SQS does not answer"), SqsQueue("own", "watched")))
    assert (found.status, found.output) == (Status.FAIL, "SQS queue bells (bells): SQS does not answer")
    assert set(found.observed["sqs"]) == {"bells", "own"}


def test_limits_in_memory_are_a_warning() -> None:
    assert check("rate_limits", limiter=Limiter("memory")).status is Status.WARN
    assert "does not answer" in check("rate_limits", limiter=Limiter("memory")).output
    assert "holdfast verify" in check("rate_limits", limiter=Limiter("memory", lacks_schema=True)).output
    assert check("rate_limits", limiter=Limiter("postgres", is_full=True)).status is Status.WARN
    found = check("rate_limits", limiter=Limiter("postgres", 3.0, admitted=5, refused=7))
    assert (found.status, found.observed["refused"]) == (Status.PASS, 7)


@pytest.mark.parametrize(("report", "age"), [(None, None), (GOOD, 31.0)])
def test_what_was_not_seen_for_a_while_is_not_known_and_no_pass(report: Report | None, age: float | None) -> None:
    checks = judge(ANSWERS, report, age, Process(), Limits())
    unknown = {each.name: each for each in checks if each.name in FROM_REPORT}
    assert set(unknown) == set(FROM_REPORT)
    assert {each.status for each in unknown.values()} == {Status.WARN}
    assert {each.output.startswith("not known: ") for each in unknown.values()} == {True}


def test_many_reasons_are_told_in_few_words() -> None:
    queues = tuple(replace(QUEUE, name=f"q{n}", due_for=400.0) for n in range(9))
    assert check("queues", replace(GOOD, queues=queues)).output.endswith("; and 4 more")


def test_the_whole_is_as_good_as_its_worst_check() -> None:
    checks = [Check("a", Status.PASS), Check("b", Status.FAIL), Check("c", Status.WARN)]
    assert worst(checks) is Status.FAIL
    assert worst([]) is Status.PASS
