"""What a [[watch]] may say, and what becomes of a stale row."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import Settings, load_settings
from holdfast.core.discovery import Candidate, as_toml, propose
from holdfast.core.watch import StaleRow, Watch, decide_rescue, parse_watch
from holdfast.errors import ConfigurationError

QUEUE = "http://127.0.0.1:4566/000000000000/orders"
GIVEN: dict[str, Any] = {
    "table": "app.jobs", "heartbeat": "seen_at", "running": ["busy"], "queued": "todo", "failed": "broken",
    "action": "requeue", "queue_url": QUEUE,
}  # fmt: skip


def row(columns: dict[str, Any] | None = None, *, earlier: int = 0) -> StaleRow:
    return StaleRow("7", "busy", "2026-01-01 00:00:00+00", None, columns or {"id": 7}, earlier)


def entry(**changes: Any) -> dict[str, Any]:
    columns = changes.pop("columns", {"id": 7, "tenant": "acme", "args": {"a": [1, "x"]}})
    rescue = decide_rescue(parse_watch({**GIVEN, **changes}), row(columns))
    assert rescue is not None
    assert rescue.entry is not None
    return dict(rescue.entry)


def test_a_stale_row_is_requeued_until_it_was_rescued_too_often() -> None:
    watch = parse_watch({**GIVEN, "max_rescues": 2})
    found = [decide_rescue(watch, row(earlier=earlier)) for earlier in (0, 1, 2, 3)]
    assert [each and (each.to_status, each.is_final, each.queue_url) for each in found] == [
        ("todo", False, QUEUE), ("todo", False, QUEUE), ("broken", True, None), ("broken", True, None),
    ]  # fmt: skip


def test_mark_writes_the_status_alone_and_alert_nothing() -> None:
    marked = decide_rescue(parse_watch({**GIVEN, "action": "mark", "queue_url": None}), row())
    assert marked is not None
    assert (marked.to_status, marked.entry, marked.queue_url) == ("todo", None, None)
    ended = decide_rescue(parse_watch({**GIVEN, "action": "mark", "queued": None, "queue_url": None}), row())
    assert ended is not None
    assert (ended.to_status, ended.is_final) == ("broken", True)
    assert decide_rescue(parse_watch({**GIVEN, "action": "alert"}), row()) is None


def test_the_message_is_the_payload_or_is_made_of_columns_with_their_types() -> None:
    assert json.loads(entry()["MessageBody"]) == {"id": 7}
    assert json.loads(entry(payload="args")["MessageBody"]) == {"a": [1, "x"]}
    assert entry(payload="args", columns={"args": "as it was"})["MessageBody"] == "as it was"
    message = {"job": "{id}", "of": {"tenant": "{tenant}", "tries": 1}, "text": "{tenant}/{id}"}
    assert json.loads(entry(message=message)["MessageBody"]) == {
        "job": 7, "of": {"tenant": "acme", "tries": 1}, "text": "acme/7",
    }  # fmt: skip
    assert entry(message="job:{id}")["MessageBody"] == "job:7"
    attributes = entry(attributes={"Tenant": "{tenant}"})["MessageAttributes"]
    assert attributes == {"Tenant": {"DataType": "String", "StringValue": "acme"}}


def test_a_value_that_looks_like_a_place_is_no_place() -> None:
    found = entry(message={"name": "{tenant}"}, columns={"tenant": "{secret}", "secret": "s3cret"})
    assert json.loads(found["MessageBody"]) == {"name": "{secret}"}


def test_a_fifo_queue_gets_a_group() -> None:
    assert entry(queue_url=f"{QUEUE}.fifo")["MessageGroupId"] == "7"
    assert entry(queue_url=f"{QUEUE}.fifo", group="{tenant}")["MessageGroupId"] == "acme"
    assert "MessageGroupId" not in entry()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"heartbeet": "x"}, "no setting 'heartbeet'; did you mean heartbeat?"),
        ({"heartbeat": None}, "lacks heartbeat; `holdfast watch discover` proposes"),
        ({"running": []}, "lacks running"),
        ({"running": [""]}, "running has an empty value"),
        ({"table": "a.b.c"}, 'table must look like jobs, app.jobs or "My Schema"."Jobs"'),
        ({"action": "retry"}, "action is 'retry'; it must be requeue, mark or alert"),
        ({"queued": "busy"}, "'busy' is queued and running as well"),
        ({"queued": None}, "lacks queued"),
        ({"failed": None}, "lacks failed: what a row becomes once it was rescued 3 times"),
        ({"queue_url": None}, "lacks queue_url, and SQS_QUEUE_URL is not set; for workers that look at the table"),
        ({"stale_after": 0}, "stale_after is 0; it must be from 1 to"),
        ({"max_rescues": 1.5}, "max_rescues must be a whole number"),
        ({"payload": "p", "message": "m"}, "has payload and message"),
        ({"message": 7}, "message must be a text or a table"),
        ({"status": ["a"]}, "status is \"['a']\"; it must be a text"),
    ],
)
def test_what_cannot_be_meant_is_told_with_the_way_out(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_watch({**GIVEN, **changes})
    assert told in str(raised.value)
    assert str(raised.value).startswith("[[watch]] of ")


def test_quoted_names_are_names() -> None:
    assert parse_watch({**GIVEN, "table": '"My Schema"."Jobs"" 2"'}).place == ("My Schema", 'Jobs" 2')
    assert parse_watch({**GIVEN, "table": "jobs"}).place == ("public", "jobs")


TOML = """
[[watch]]
table = "jobs"
heartbeat = "seen_at"
running = "busy"
queued = "todo"
failed = "broken"
action = "requeue"
message = { job = "{id}", tries = 1 }
"""


def test_the_file_says_it_and_the_teams_own_queue_is_where_messages_go(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(TOML)
    settings = load_settings(environment={"SQS_QUEUE_URL": QUEUE}, folder=tmp_path)
    (watch,) = settings.watch
    assert (watch.name, watch.queue_url, watch.running) == ("jobs", QUEUE, ("busy",))
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again.watch == settings.watch


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TOML, "lacks queue_url, and SQS_QUEUE_URL is not set"),
        (TOML.replace('"requeue"', '"alert"') * 2, "two [[watch]] are called 'jobs'"),
        ('watch = "jobs"', "it must be a JSON array; better write [[watch]]"),
        ("[watch]\ntable = 'jobs'", "write [[watch]] into holdfast.toml, once for each table"),
        (TOML + "queue_url = 'orders'", "queue_url of 'jobs' is 'orders', which is no queue's URL"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_reason(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_settings(environment={}, folder=tmp_path)
    assert "setting watch from holdfast.toml" in str(raised.value)
    assert told in str(raised.value)


def candidate(table: str = "jobs", values: tuple[str, ...] = ("done", "failed", "processing", "queued"),
              times: tuple[str, ...] = ("created_at", "heartbeat_at"), id: str | None = "id") -> Candidate:  # fmt: skip
    return Candidate("public", table, 1000, id, "status", values, times)


def test_a_table_of_jobs_is_proposed_as_an_entry_that_can_be_read() -> None:
    (found,) = propose([candidate()])
    assert found.entry == {"table": "public.jobs", "id": "id", "status": "status", "heartbeat": "heartbeat_at",
                           "running": ["processing"], "queued": "queued", "failed": "failed"}  # fmt: skip
    assert found.doubts == []
    import tomllib

    (entry,) = tomllib.loads(as_toml(found))["watch"]
    assert parse_watch(entry) == Watch(
        "public.jobs", "id", "status", "heartbeat_at", ("processing",), "queued", "failed", name="public.jobs"
    )


def test_what_is_not_sure_is_said_and_what_is_no_job_is_left_out() -> None:
    found = propose(
        [
            candidate("users", ("active", "invited")),
            candidate("orders", ("paid", "new", "shipped")),
            candidate("exports", times=("updated_at",)),
            candidate("tasks", times=(), id=None),
            candidate("procrastinate_jobs", ("todo", "doing", "failed")),
            candidate("import_runs", (), times=("started_at",)),
        ]
    )
    doubts = {each.candidate.table: " ".join(each.doubts) for each in found}
    assert "users" not in doubts
    assert "orders" not in doubts
    assert "do workers write updated_at while they run?" in doubts["exports"]
    assert "no time that workers could keep up" in doubts["tasks"]
    assert "no unique key on one column" in doubts["tasks"]
    assert "this table is Procrastinate's" in doubts["procrastinate_jobs"]
    assert "no value of status that means running" in doubts["import_runs"]
    import tomllib

    pasted = "\n\n".join(map(as_toml, found))
    assert [each["table"] for each in tomllib.loads(pasted)["watch"]] == ["public.exports"], "the rest is a comment"


def test_logs_and_statistics_of_jobs_are_no_jobs() -> None:
    assert propose([candidate("jobs_log"), candidate("job_events"), candidate("task_statistics")]) == []


def test_names_as_typescript_has_them_are_known_and_any_name_makes_a_file_that_can_be_read() -> None:
    (found,) = propose([candidate("ExportJob😀\x7f", times=("createdAt", "startedAt", "lastHeartbeatAt"))])
    assert (found.entry["heartbeat"], found.entry["since"]) == ("lastHeartbeatAt", "startedAt")
    import tomllib

    (entry,) = tomllib.loads(as_toml(found))["watch"]
    assert entry["table"] == "public.ExportJob😀\x7f"
