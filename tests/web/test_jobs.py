"""Jobs over HTTP, against a real ledger."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from holdfast import Holdfast, RetryPolicy
from holdfast.postgres.embedded import EmbeddedPostgres
from tests.support import Session, claim_one, enqueue, job, register, row, settle
from tests.web.support import HERE, Api, api_over, frozen, make_token

NOBODY = "01a21063-acb2-77ca-9207-5a35b76c8003"
ONE = {"kind": "report", "args": {"n": 1}}


def app() -> Holdfast:
    made = Holdfast()

    @made.job(queue="mail", max_attempts=3, timeout=60, priority=5, retry=RetryPolicy(base=1))
    async def send_mail(to: str, at: datetime | None = None) -> None:
        pass

    @made.job(limit=2)
    async def scarce() -> None:
        pass

    return made


# Writing


async def test_a_job_is_in_the_ledger_when_the_answer_comes(api: Api, conn: Session) -> None:
    answer = await api.client.post("/api/jobs", json=ONE)
    body = answer.json()
    assert (answer.status_code, body["kind"], body["queue"], body["created"]) == (201, "report", "default", True)
    assert answer.headers["location"] == f"/api/jobs/{body['id']}"
    written = job(conn, body["id"])
    assert (written["status"], written["args"], written["max_attempts"]) == ("queued", {"n": 1}, 5)
    assert written["timeout"] == timedelta(hours=1)


async def test_many_jobs_are_written_together_and_answered_in_order(api: Api, conn: Session) -> None:
    wanted = [{"kind": "report", "args": {"n": n}} for n in range(1000)]
    answer = await api.client.post("/api/jobs", json={"jobs": wanted})
    ids = [each["id"] for each in answer.json()["jobs"]]
    assert answer.status_code == 201
    assert [job(conn, id)["args"]["n"] for id in ids[::250]] == [0, 250, 500, 750]
    assert row(conn, "SELECT count(*) AS n, count(DISTINCT xmin::text) AS writers FROM holdfast.jobs") == {
        "n": 1000,
        "writers": 1,
    }


async def test_many_large_jobs_are_written_in_one_transaction_too(api: Api, conn: Session) -> None:
    wanted = [{"kind": "report", "args": {"text": "x" * 900_000}} for _ in range(8)]
    assert (await api.client.post("/api/jobs", json={"jobs": wanted})).status_code == 201
    assert row(conn, "SELECT count(DISTINCT xmin::text) AS writers FROM holdfast.jobs")["writers"] == 1


async def test_one_bad_job_of_many_writes_none_and_is_named(api: Api, conn: Session) -> None:
    answer = await api.client.post("/api/jobs", json={"jobs": [ONE, {"kind": "", "args": {}}]})
    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["pointer"] == "/jobs/1/kind"
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


async def test_every_option_reaches_the_row(api: Api, conn: Session) -> None:
    later = datetime(2030, 1, 1, tzinfo=UTC)
    policy = {
        "max_attempts": 2, "max_crashes": 1, "timeout": None, "silent_after": 30, "rescue": "dead",
        "retry": {"base": 9}, "limit_max": 4,
    }  # fmt: skip
    sent = {
        "kind": "report", "queue": "q", "priority": -7, "run_at": later.isoformat(), "unique_key": "u",
        "group_key": "g", "limit_key": "l", "policy": policy,
    }  # fmt: skip
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = await api.client.post("/api/jobs", json=sent, headers={"traceparent": trace})
    written = job(conn, answer.json()["id"])
    found = {name: written[name] for name in ("queue", "priority", "run_at", "unique_key", "group_key", "limit_key")}
    assert found == {
        "queue": "q", "priority": -7, "run_at": later, "unique_key": "u", "group_key": "g", "limit_key": "l",
    }  # fmt: skip
    assert (written["max_attempts"], written["max_crashes"], written["timeout"]) == (2, 1, None)
    assert (written["silent_after"], written["rescue_policy"], written["limit_max"]) == (
        timedelta(seconds=30), "dead", 4,
    )  # fmt: skip
    assert written["retry_policy"]["base"] == 9
    assert written["traceparent"] == trace


async def test_an_equal_unique_key_gives_the_job_that_is_there(api: Api) -> None:
    first = await api.client.post("/api/jobs", json={**ONE, "unique_key": "u"})
    second = await api.client.post("/api/jobs", json={**ONE, "unique_key": "u"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == {**first.json(), "created": False}


async def test_a_kind_of_the_application_brings_its_own_queue_and_policy(database: str, conn: Session) -> None:
    async with api_over(database, kinds=app().kinds) as api:
        at = "2026-01-02T03:04:05+00:00"
        mail = await api.client.post("/api/jobs", json={"kind": "send_mail", "args": {"to": "ada", "at": at}})
        scarce = await api.client.post("/api/jobs", json={"kind": "scarce", "policy": {"max_attempts": 9}})
    written = job(conn, mail.json()["id"])
    assert (written["queue"], written["priority"], written["max_attempts"]) == ("mail", 5, 3)
    assert (written["timeout"], written["retry_policy"]["base"]) == (timedelta(minutes=1), 1)
    assert written["args"] == {"to": "ada", "at": "2026-01-02T03:04:05Z"}
    limited = job(conn, scarce.json()["id"])
    assert (limited["limit_key"], limited["limit_max"], limited["max_attempts"]) == ("scarce", 2, 9)


async def test_arguments_that_do_not_fit_the_handler_are_refused_with_the_reason(database: str) -> None:
    async with api_over(database, kinds=app().kinds) as api:
        wrong = await api.client.post("/api/jobs", json={"kind": "send_mail", "args": {"to": 3}})
        missing = await api.client.post("/api/jobs", json={"kind": "send_mail", "args": {}})
    assert (wrong.status_code, missing.status_code) == (422, 422)
    assert "send_mail: to: Input should be a valid string" in wrong.json()["detail"]
    assert "missing a required argument: 'to'" in missing.json()["detail"]


async def test_a_mistyped_kind_is_refused_and_named_unless_a_worker_knows_it_or_the_caller_insists(
    database: str, conn: Session
) -> None:
    async with api_over(database, kinds=app().kinds) as api:
        refused = await api.client.post("/api/jobs", json={"kind": "send_mial"})
        insisted = await api.client.post("/api/jobs", json={"kind": "send_mial", "accept_unknown_kind": True})
        register(conn, kinds=["resize"])
        known = await api.client.post("/api/jobs", json={"kind": "resize"})
    assert refused.status_code == 422
    assert "no worker knows the kind 'send_mial'; did you mean 'send_mail'?" in refused.json()["detail"]
    assert (insisted.status_code, known.status_code) == (201, 201)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"kind": "report", "args": {"x": "a\x00b"}}, "NUL"),
        ({"kind": "report", "colour": "red"}, "body/colour: Extra inputs are not permitted"),
        ({"kind": "report", "args": [1]}, "body/args: Input should be a valid dictionary"),
        ({"kind": "report", "priority": 2000}, "body/priority: Input should be less than or equal to 1000"),
        ({"kind": "report", "run_at": "2030-01-01T00:00:00"}, "timezone"),
        ({"kind": "report", "run_at": "2030-01-01T00:00:00Z", "delay": 5}, "give run_at or delay, not both"),
        ({"kind": "report", "run_at": "0001-01-01T00:00:00+14:00"}, "run_at must lie in the years 2 to 9998"),
        ({"kind": "report", "run_at": "9999-12-31T23:59:59-14:00"}, "run_at must lie in the years 2 to 9998"),
        ({"kind": "a\x00b"}, "body/kind: it holds the character NUL"),
        ({"kind": "report", "group_key": "a\x00b"}, "body/group_key: it holds the character NUL"),
        ({"kind": "report", "delay": -1}, "body/delay"),
        ({"kind": "report", "args": {"x": "y" * 1_100_000}}, "the limit is 1,048,576"),
        ({"jobs": []}, "body/jobs: List should have at least 1 item"),
        ({"jobs": [ONE] * 1001}, "body/jobs: List should have at most 1000 items"),
        ([1], "body"),
        ("text", "body"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_bad_input_is_refused_with_what_is_wrong_and_writes_nothing(
    api: Api, conn: Session, sent: Any, said: str
) -> None:
    answer = await api.client.post("/api/jobs", json=sent)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b"NaN", b'{"kind": "report", "args": {"x": NaN}}'])
async def test_what_is_not_json_is_refused(api: Api, body: bytes) -> None:
    answer = await api.client.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_of_another_type_is_not_read(api: Api, conn: Session) -> None:
    """A page elsewhere can make a browser post text, but not JSON."""
    answer = await api.client.post("/api/jobs", content=json.dumps(ONE), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


async def test_a_body_beyond_the_limit_is_refused_while_it_arrives(api: Api) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65536

    answer = await api.client.post("/api/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "8,388,608 bytes" in answer.json()["detail"]


async def test_a_request_whose_sender_leaves_before_its_end_does_nothing(api: Api, conn: Session) -> None:
    """What has arrived may be JSON already: the rest could have been more jobs, or another length."""
    said = iter(
        (
            {"type": "http.request", "body": json.dumps(ONE).encode(), "more_body": True},
            {"type": "http.disconnect"},
        )
    )
    scope = {
        "type": "http", "method": "POST", "path": "/api/jobs", "query_string": b"", "client": (HERE, 1234),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }  # fmt: skip
    answers: list[Any] = []

    async def receive() -> Any:
        return next(said)

    async def send(message: Any) -> None:
        answers.append(message)

    await api.app(scope, receive, send)
    assert answers == []
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 0


# Idempotency-Key


async def test_the_same_request_under_the_same_key_writes_once_and_answers_the_same(api: Api, conn: Session) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = await api.client.post("/api/jobs", json=ONE, headers=headers)
    again = await api.client.post("/api/jobs", json={"args": {"n": 1}, "kind": "report"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 1


async def test_twenty_at_once_under_one_key_write_once(api: Api, conn: Session) -> None:
    many = {"jobs": [ONE, {"kind": "report", "args": {"n": 2}}]}
    headers = {"Idempotency-Key": "batch"}
    answers = await asyncio.gather(*(api.client.post("/api/jobs", json=many, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 2


async def test_another_request_under_the_same_key_is_refused(api: Api, conn: Session) -> None:
    headers = {"Idempotency-Key": "order-1"}
    await api.client.post("/api/jobs", json=ONE, headers=headers)
    other = await api.client.post("/api/jobs", json={"kind": "report", "args": {"n": 2}}, headers=headers)
    assert other.status_code == 422
    assert "used for another request" in other.json()["detail"]
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 1


async def test_a_key_means_nothing_to_another_caller(api: Api, conn: Session) -> None:
    tokens = [await make_token(api.services) for _ in range(2)]
    for token in tokens:
        headers = {"Idempotency-Key": "order-1", "Authorization": f"Bearer {token}"}
        assert (await api.client.post("/api/jobs", json=ONE, headers=headers)).status_code == 201
    assert row(conn, "SELECT count(*) AS n FROM holdfast.jobs")["n"] == 2


async def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    headers = {"Idempotency-Key": "order-1"}
    bad = {"kind": "report", "unique_key": "u" * 201}
    assert (await api.client.post("/api/jobs", json=bad, headers=headers)).status_code == 422
    assert (await api.client.post("/api/jobs", json=ONE, headers=headers)).status_code == 201


@pytest.mark.parametrize("key", ["", "with space", "x" * 256])
async def test_an_idempotency_key_must_be_plain(api: Api, key: str) -> None:
    answer = await api.client.post("/api/jobs", json=ONE, headers={"Idempotency-Key": key})
    assert answer.status_code == 400


# Reading


async def test_a_job_is_read_whole_with_its_events(api: Api, conn: Session) -> None:
    id = enqueue(conn, args={"n": 1})
    worker = register(conn)
    run = claim_one(conn, worker)
    settle(conn, worker, run, "fail", error={"type": "ValueError", "message": "no", "traceback": "..."})
    body = (await api.client.get(f"/api/jobs/{id}")).json()
    assert (body["id"], body["status"], body["error"]["type"]) == (str(id), "dead", "ValueError")
    assert [event["event"] for event in body["events"]] == ["failure"]
    assert body["timeout"] == 3600


@pytest.mark.parametrize("path", [f"/api/jobs/{NOBODY}", f"/api/jobs/{NOBODY}/cancel", f"/api/jobs/{NOBODY}/retry"])
async def test_a_job_that_is_not_there_is_not_found(api: Api, path: str) -> None:
    answer = await (api.client.get(path) if path.count("/") == 3 else api.client.post(path))
    assert answer.status_code == 404
    assert "it may have been removed after its retention" in answer.json()["detail"]


async def test_an_id_that_is_none_is_refused(api: Api) -> None:
    assert (await api.client.get("/api/jobs/42")).status_code == 422


async def test_a_list_is_read_a_page_at_a_time_to_its_end(api: Api) -> None:
    sent = {"jobs": [{"kind": f"kind{n % 2}", "queue": "q"} for n in range(25)]}
    ids = [each["id"] for each in (await api.client.post("/api/jobs", json=sent)).json()["jobs"]]
    seen: list[str] = []
    following: str | None = "/api/jobs?queue=q&limit=10"
    while following:
        page = (await api.client.get(following)).json()
        seen += [each["id"] for each in page["jobs"]]
        following = page["next"]
    assert seen == ids[::-1]
    odd = (await api.client.get("/api/jobs", params={"kind": "kind1", "status": "queued"})).json()
    assert len(odd["jobs"]) == 12
    assert (await api.client.get("/api/jobs", params={"status": "lost"})).status_code == 422
    assert (await api.client.get("/api/jobs", params={"limit": 0})).status_code == 422


# Cancel and retry


async def test_cancel_and_retry_do_what_the_ledger_allows_and_say_why_not(api: Api, conn: Session) -> None:
    async def ask(verb: str) -> httpx.Response:
        return await api.client.post(f"/api/jobs/{id}/{verb}")

    id = enqueue(conn)
    assert (await ask("cancel")).json() == {"id": str(id), "verdict": "cancelled", "status": "cancelled"}
    assert (await ask("cancel")).status_code == 200
    assert (await ask("retry")).json()["status"] == "queued"
    worker = register(conn)
    run = claim_one(conn, worker)
    assert (await ask("cancel")).json()["verdict"] == "requested"
    assert (await ask("retry")).status_code == 409
    settle(conn, worker, run)
    for verb in ("cancel", "retry"):
        refused = await ask(verb)
        assert refused.status_code == 409
        assert "succeeded" in refused.json()["detail"]


# Without the ledger


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/jobs"),
        ("GET", "/api/jobs"),
        ("GET", f"/api/jobs/{NOBODY}"),
        ("POST", f"/api/jobs/{NOBODY}/cancel"),
        ("POST", f"/api/jobs/{NOBODY}/retry"),
    ],
)
async def test_with_postgres_stopped_each_route_answers_503_within_its_deadline(
    own_server: EmbeddedPostgres, method: str, path: str
) -> None:
    body = ONE if path == "/api/jobs" and method == "POST" else None
    async with api_over(own_server.dsn, timeout=1.0, limiter_deadline=0.05) as api:
        with frozen(own_server):
            headers = {"Idempotency-Key": "k"}
            answer = await asyncio.wait_for(api.client.request(method, path, headers=headers, json=body), 10)
            again = await asyncio.wait_for(api.client.request(method, path, json=body), 10)
        assert (answer.status_code, again.status_code) == (503, 503)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
        after = await api.client.request(method, path, json=body)
    assert after.status_code in (200, 201, 404)


async def test_with_postgres_stopped_a_page_says_so_as_a_page(own_server: EmbeddedPostgres) -> None:
    async with api_over(own_server.dsn, timeout=0.3, limiter_deadline=0.05) as api:
        await api.client.get("/dashboard/queues")
        with frozen(own_server):
            page = await api.client.get("/dashboard/queues")
            told = await api.client.get("/api/queues")
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "The ledger does not answer" in page.text
    assert 'href="./jobs"' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (told.status_code, told.headers["content-type"]) == (503, "application/problem+json")


async def test_a_number_that_python_does_not_read_is_shown_as_text(api: Api, conn: Session) -> None:
    id = enqueue(conn)
    conn.execute("""UPDATE holdfast.jobs SET args = format('{"n": 1%s}', repeat('0', 5000))::jsonb""")
    found = await api.client.get(f"/api/jobs/{id}")
    assert found.json()["args"] == {"n": "1" + "0" * 5000}
    assert (await api.client.get(f"/dashboard/jobs/{id}")).status_code == 200
