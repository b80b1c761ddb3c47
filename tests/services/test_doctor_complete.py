"""No line of the doctor that cannot fail: for each there is a test in which its part is broken, and it says so."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from holdfast.app import new_id
from holdfast.core.findings import Finding, Verdict
from holdfast.core.health import Monitor, Report
from holdfast.services.checks import workers
from holdfast.services.checks.alerts import check_slack
from holdfast.services.doctor import Doctor
from holdfast.services.sqs_watch import WatchedQueue
from tests.services.test_doctor import deployment, finding

HERE = Path(__file__).parent
SERVER = "test_doctor_lines.py::test_a_server_that_is_not_as_it_should_be_is_told_with_the_way_out"
BROKEN = "test_doctor.py::test_a_schema_that_is_not_whole_fails_where_it_is_broken"
ACCESS = "test_doctor_lines.py::test_rows_that_a_policy_hides_and_strangers_who_may_look_are_told"
TABLE = "test_limit_table.py::test_what_slows_it_is_told_with_the_way_out"
MONITOR = "test_doctor_complete.py::test_a_monitor_that_does_not_sweep_fails"
UNTOLD = "test_doctor_lines.py::test_a_canary_that_nobody_runs_and_a_death_that_nobody_tells_fail"
GONE = "test_queue_checks.py::test_a_queue_that_is_not_there_fails_with_its_name_and_without_its_account"
HASTY = "test_queue_checks.py::test_letters_that_would_expire_unread_fail"
SHORT = "test_queue_checks.py::test_a_visibility_too_short_to_do_anything_warns"

#: Of each line, the test in which its part is broken.
MADE_TO_FAIL = {
    "database.answers": "test_doctor.py::test_a_database_that_nobody_serves_is_unreachable_and_the_rest_is_skipped",
    "database.version": SERVER,
    "database.tls": SERVER,
    "database.clock": SERVER,
    "database.room": SERVER,
    "database.writable": SERVER,
    "migrations.head": BROKEN,
    "schema.drift": "test_doctor_lines.py::test_what_differs_from_the_migrations_is_named",
    "schema.rate_limit_requests": BROKEN,
    "schema.find_stale_jobs": BROKEN,
    "schema.stale_jobs_view": BROKEN,
    "access.grants": "test_doctor_lines.py::"
    "test_a_role_without_grants_is_told_and_repaired_by_the_statements_that_are_named",
    "access.rows": ACCESS,
    "access.strangers": ACCESS,
    "limits.hot_updates": TABLE,
    "limits.old_transaction": TABLE,
    "limits.room": TABLE,
    "workers.live": "test_doctor.py::test_without_workers_nothing_is_swept_nor_sent_and_it_says_so",
    "workers.beats": "test_doctor_lines.py::test_a_worker_whose_beats_are_late_is_told_before_it_is_declared_gone",
    "workers.drain": "test_doctor_lines.py::test_a_platform_that_kills_too_early_is_told",
    **{workers.id_of(name): MONITOR for name in workers.NAMES.values()},
    "jobs.end_to_end": "test_doctor.py::test_a_job_that_nobody_runs_fails_and_is_taken_back",
    "settings.in_force": "test_doctor.py::test_a_service_with_older_settings_or_another_version_is_named",
    "e2e.timing": UNTOLD,
    "e2e.death": UNTOLD,
    **{f"sqs.{role}.answers": GONE for role in ("bells", "watched", "dead letters")},
    **{f"sqs.{role}.redrive": HASTY for role in ("bells", "watched")},
    **{f"sqs.{role}.visibility": SHORT for role in ("bells", "watched")},
    "alerts.slack": "test_doctor_complete.py::test_a_webhook_that_is_none_fails_and_is_not_used",
    "api.answers": "test_doctor.py::test_an_api_that_is_not_there_is_unreachable",
    "health.status": "test_doctor.py::test_health_that_fails_is_told_with_its_reasons",
    "health.private": "test_doctor.py::test_details_for_strangers_fail",
    "limits.refuse": "test_doctor.py::test_a_limit_that_admits_one_too_many_fails",
}


async def test_each_line_has_a_test_that_makes_it_fail(database: str) -> None:
    queues = [WatchedQueue("http://127.0.0.1:1/0/q", role) for role in ("bells", "watched", "dead letters")]
    async with deployment(database, with_worker=False) as made:
        lines = set(Doctor(replace(made, e2e=True, queues=queues), new_id=new_id).lines())
        without_queues = set(Doctor(made, new_id=new_id).lines()) - lines
    assert set(MADE_TO_FAIL) == lines
    assert without_queues == {"sqs.queues"}, "which says that there is nothing to look at"
    assert [name for name in MADE_TO_FAIL.values() if not exists(name)] == []


def exists(name: str) -> bool:
    file, _, test = name.partition("::")
    return any(getattr(each, "name", "") == test for each in ast.parse((HERE / file).read_text()).body)


@pytest.mark.parametrize(("key", "name"), workers.NAMES.items())
def test_a_monitor_that_does_not_sweep_fails(key: str, name: str) -> None:
    def line(swept_ago: float | None, *, is_held: bool = False) -> Finding:
        report = Report(monitors=(Monitor(key, 15.0, swept_ago, is_held, {}),))
        return finding(workers.check_monitors(report, has_queues=True), workers.id_of(name))

    assert [line(ago).verdict for ago in (10.0, 51.0, None)] == [Verdict.PASS, Verdict.FAIL, Verdict.FAIL]
    assert (line(10.0, is_held=True).verdict, line(51.0).fix != "") == (Verdict.WARN, True)
    assert finding(workers.check_monitors(Report(), has_queues=True), workers.id_of(name)).verdict is Verdict.FAIL


@pytest.mark.parametrize("webhook", ["not an address", "http://hooks.slack.com/services/T0/B0/secret"])
async def test_a_webhook_that_is_none_fails_and_is_not_used(webhook: str) -> None:
    found = await check_slack(SecretStr(webhook), send_test=True)
    assert (found.verdict, found.fix) == (Verdict.FAIL, "copy the whole address from Slack")
    assert "secret" not in found.found


async def test_a_test_that_is_wanted_where_there_is_no_webhook_fails() -> None:
    assert (await check_slack(None, send_test=True)).verdict is Verdict.FAIL
