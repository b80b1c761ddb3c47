"""How health is judged: each check made to pass, to warn and to fail."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.core.health import (
    Check,
    Ended,
    Incident,
    Ledger,
    Limiter,
    Limits,
    Monitor,
    Notifications,
    Pool,
    Postgres,
    Process,
    Queue,
    Report,
    Severity,
    SqsQueue,
    Stale,
    Status,
    UnknownKind,
    WatchedTable,
    Workers,
    parse_queue_limits,
    worst,
)
from holdfast.core.health_checks import LOOK_OF, judge
from holdfast.errors import ConfigurationError

QUEUE = Queue("mail", False, 3, 2, 1, 8, 1.0, 0.5)
SWEEPS = Monitor("rescue_stale_jobs", 5.0, 2.0, False, {})
HISTOGRAM = (0, 0, 0, 0, 100, *[0] * 14)
WATCHED = WatchedTable("jobs", "jobs", "requeue", 5.0, 2.0, 0, 1, 0, 0, None)
GOOD = Report(
    clock=datetime(2026, 1, 1, tzinfo=UTC),
    postgres=Postgres(18, 12, 100, 0.1),
    workers=Workers(live=1, silent=0, draining=0, slots=10, longest_lag=0.01),
    queues=(QUEUE,),
    unknown_kinds=(),
    running=2,
    ended=Ended(60.0, 100, 3, 0, 0, HISTOGRAM, HISTOGRAM),
    stale=Stale(0, {}),
    watches=(WATCHED,),
    dead=0,
    monitors=(SWEEPS,),
    notifications=Notifications(0, 0, 0.0, None),
    incidents=(),
    rate_limits=(),
)
ANSWERS = Ledger(None, 0.002, None, 13, 13)


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        (
            {"looked_ago": 90.0},
            "fail",
            "jobs: nobody looks at it any more, for 90 s (was it taken out? holdfast watch forget jobs)",
        ),
        ({"problem": "there is no table jobs"}, "fail", "jobs: there is no table jobs"),
        ({"stale": 3}, "warn", "jobs: 3 rows are stuck"),
        ({"unsent": 2}, "warn", "jobs: 2 messages of rescued rows wait to be sent"),
    ],
)
def test_a_watched_table_that_is_not_well_is_told_and_the_whole_is_degraded(
    changes: dict[str, Any], status: str, said: str
) -> None:
    found = check("watched_tables", replace(GOOD, watches=(replace(WATCHED, **changes),)))
    assert (found.status, found.output, found.weight) == (status, said, Status.WARN)


def check(name: str, report: Report = GOOD, ledger: Ledger = ANSWERS, **process: Any) -> Check:
    checks = judge(ledger, report, Process(**process), Limits())
    return next(each for each in checks if each.name == name)


def with_queue(**changes: Any) -> Report:
    return replace(GOOD, queues=(replace(QUEUE, **changes),))


def test_what_is_well_passes_without_a_word() -> None:
    checks = judge(ANSWERS, GOOD, Process(Limiter("postgres"), Pool(4, 1, 0), (SqsQueue("bells", "bells"),)), Limits())
    assert {each.name for each in checks} == set(LOOK_OF)
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
        ("jobs", replace(GOOD, ended=Ended(1.0, 9, 0, 11)), "warn", "11 of the 20 jobs that ended"),
        ("jobs", replace(GOOD, ended=Ended(1.0, 0, 0, 19)), "pass", ""),
        ("stale_jobs", replace(GOOD, stale=Stale(3, {"worker_gone": 3})), "warn", "3 running jobs are stuck: 3 worker"),
        ("dead_letters", replace(GOOD, ended=Ended(1.0, 19, 0, 1)), "warn", "1 jobs ended dead within"),
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


def test_a_queue_of_sqs_that_cannot_be_asked_is_told_and_stops_nothing() -> None:
    found = check("sqs", sqs=(SqsQueue("bells", "bells", "SQS does not answer"), SqsQueue("own", "watched")))
    assert (found.status, found.output) == (Status.FAIL, "SQS queue bells (bells): SQS does not answer")
    assert (set(found.observed), found.weight) == ({"bells", "own"}, Status.WARN)


def test_limits_in_memory_are_a_warning() -> None:
    assert check("rate_limits", limiter=Limiter("memory")).status is Status.WARN
    assert "does not answer" in check("rate_limits", limiter=Limiter("memory")).output
    assert "holdfast doctor" in check("rate_limits", limiter=Limiter("memory", lacks_schema=True)).output
    assert check("rate_limits", limiter=Limiter("postgres", is_full=True)).status is Status.WARN
    found = check("rate_limits", limiter=Limiter("postgres", 3.0, admitted=5, refused=7))
    assert (found.status, found.observed["refused"]) == (Status.PASS, 7)


@pytest.mark.parametrize("age", [None, 31.0])
def test_what_was_not_seen_for_a_while_is_not_known_and_no_pass(age: float | None) -> None:
    checks = judge(ANSWERS, GOOD, Process(), Limits(), lambda part: age if part == "queues" else 1.0)
    unknown = {each.name: each for each in checks if each.output}
    assert set(unknown) == {"queues", "ringer"}, "what other looks bring is not hidden"
    assert {each.status for each in unknown.values()} == {Status.FAIL}
    assert {each.output.startswith("not known: ") for each in unknown.values()} == {True}


def test_a_check_counts_as_far_as_its_severity_goes() -> None:
    assert worst([Check("a", Status.FAIL, severity=Severity.DEGRADED)]) is Status.WARN
    assert worst([Check("a", Status.FAIL, severity=Severity.INFO)]) is Status.PASS
    assert worst([Check("a", Status.WARN, severity=Severity.CRITICAL)]) is Status.WARN


def test_a_queue_has_limits_of_its_own() -> None:
    limits = Limits(queues=dict([parse_queue_limits("mail=10:60"), parse_queue_limits("bulk=3600")]))

    def verdict(name: str, waited: float) -> Status:
        report = replace(GOOD, queues=(replace(QUEUE, name=name, due_for=waited),))
        return next(each.status for each in judge(ANSWERS, report, Process(), limits) if each.name == "queues")

    assert [verdict("mail", waited) for waited in (9.0, 11.0, 61.0)] == [Status.PASS, Status.WARN, Status.FAIL]
    assert [verdict("bulk", waited) for waited in (3000.0, 4000.0)] == [Status.PASS, Status.WARN]
    assert verdict("other", 301.0) is Status.WARN


@pytest.mark.parametrize("text", ["mail", "mail=", "=5", "mail=soon", "mail=60:30", "mail=-1", "mail=0"])
def test_limits_that_are_none_are_refused_with_the_value_and_the_way_out(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write NAME=SECONDS"):
        parse_queue_limits(text)


def test_a_bell_that_nobody_hears_is_told_where_bells_are_in_use() -> None:
    unheard = with_queue(due_for=90.0, rung_ago=80.0, asked_ago=100.0, room=0)
    bells = (SqsQueue("bells", "bells"),)
    assert check("ringer", unheard, sqs=bells).output == "1 queues were rung, and nobody came for 80 s"
    assert check("ringer", unheard).status is Status.PASS
    assert check("ringer", with_queue(due_for=90.0, rung_ago=80.0, asked_ago=1.0), sqs=bells).status is Status.PASS


def test_a_pool_that_is_full_is_a_warning_of_its_own() -> None:
    assert check("pool", pool=Pool(4, 4, 0)).status is Status.PASS
    found = check("pool", pool=Pool(4, 4, 7))
    assert (found.status, found.severity) == (Status.WARN, Severity.DEGRADED)
    assert check("database", pool=Pool(4, 4, 7)).status is Status.PASS


def test_a_schema_of_another_version_fails() -> None:
    found = check("schema", ledger=Ledger(schema="it is not ours", schema_version=12, expected=13))
    assert (found.status, found.observed) == (Status.FAIL, {"version": 12, "expected": 13})


def test_a_standby_that_is_far_behind_is_a_warning() -> None:
    behind = replace(GOOD, postgres=Postgres(18, 1, 100, 0, standbys=1, replication_lag=61.0))
    assert check("database", behind).output == "a standby is 61 s behind"


def test_times_are_told_as_percentiles() -> None:
    assert check("jobs").observed["wait_s"] == {"p50": 0.075, "p95": 0.0975, "p99": 0.0995}


def test_many_reasons_are_told_in_few_words() -> None:
    queues = tuple(replace(QUEUE, name=f"q{n}", due_for=400.0) for n in range(9))
    assert check("queues", replace(GOOD, queues=queues)).output.endswith("; and 4 more")


def test_the_whole_is_as_good_as_its_worst_check() -> None:
    checks = [Check("a", Status.PASS), Check("b", Status.FAIL), Check("c", Status.WARN)]
    assert worst(checks) is Status.FAIL
    assert worst([]) is Status.PASS
