"""Planted secrets: a monitor that fails in every way says a lot, and none of them."""

import json
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from holdfast.core.api_keys import Role
from holdfast.sqs.client import Sqs
from tests.cli.command import eventually, holdfast, running
from tests.notify.slack_server import SlackServer
from tests.postgres.test_dead_letters import dies
from tests.sqs.local import LocalSqs
from tests.support import Session, advance, calm, rows, seconds
from tests.web.support import HERE, api_over, make_token

#: What is planted. It may be in the ledger, where letters are kept whole, but in no output and no alert.
BODY, ATTRIBUTE, HOOK, SIGNING, PAGER = (
    "AKIAPLANTEDINBODY",
    "planted-attribute",
    "planted-hook",
    "planted-key",
    "planted-pd",
)
PASSWORD, DEADMAN, JOB = "planted-password", "planted-deadman", "hunter2"
PLANTED = (BODY, ATTRIBUTE, HOOK, SIGNING, PAGER, PASSWORD, DEADMAN, JOB, "secret-of-slack")


async def send(url: str, name: str) -> None:
    sqs = Sqs(url)
    dead = await sqs.create(name, {"MessageRetentionPeriod": "7200"}, {})
    text = {"DataType": "String", "StringValue": ATTRIBUTE}
    body = json.dumps({"type": "ship", "error_type": "Boom", "error_message": BODY, "token": BODY})
    attributes = {"token": text, "error": text}
    await sqs.send_entries(dead, [{"Id": "0", "MessageBody": body, "MessageAttributes": attributes}])
    await sqs.close()


async def dashboard(database: str, conn: Session) -> str:
    """What it shows to whoever may look: the pages on which letters, incidents and redrives are."""
    (group,) = rows(conn, "SELECT DISTINCT fingerprint FROM holdfast.dead_letters WHERE cause = 'Boom'")
    paths = [
        "",
        "dead-letters",
        f"dead-letters/cause?fingerprint={quote(group['fingerprint'])}",
        "redrives",
        "incidents",
    ]
    paths += [f"letters/{each['id']}" for each in rows(conn, "SELECT id FROM holdfast.dead_letters")]
    paths += [f"incidents/{each['id']}" for each in rows(conn, "SELECT id FROM holdfast.incidents")]
    async with api_over(database) as api:
        caller = api.caller(HERE, Authorization=f"Bearer {await make_token(api.services, role=Role.VIEWER)}")
        async with caller:
            answers = [await caller.get(f"/dashboard/{path}") for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    assert "orders-" in "".join(answer.text for answer in answers)
    return "".join(answer.text for answer in answers)


async def test_no_planted_secret_is_in_what_a_failing_monitor_says(
    database: str, conn: Session, sqs: LocalSqs, tmp_path: Path
) -> None:
    calm(conn)
    name, receipts = f"orders-{uuid4().hex[:8]}-dlq", ""
    await send(sqs.url("any"), name)
    dies(conn)
    advance(conn, seconds(16))
    with ExitStack() as stack:
        slack, hook = SlackServer(), SlackServer()
        stack.callback(slack.close)
        stack.callback(hook.close)
        hook.answers(503, "")
        where = {
            "DATABASE_URL": f"{database} password={PASSWORD}",
            "HOLDFAST_DLQ_CAPTURE": name, "HOLDFAST_DLQ_INTERVAL": "1",
            "HOLDFAST_DLQ_URLS": f"{sqs.url(name)},{sqs.url('nobody-dlq')}", "SLACK_WEBHOOK_URL": slack.webhook,
            "HOLDFAST_WEBHOOK_URL": f"{hook.webhook}/{HOOK}", "HOLDFAST_WEBHOOK_SECRET": SIGNING,
            "HOLDFAST_PAGERDUTY_KEY": PAGER, "HOLDFAST_PAGERDUTY_URL": "http://127.0.0.1:1/v2",
            "HOLDFAST_RUN_DIR": "run",
            "HOLDFAST_DEADMAN_URL": f"http://127.0.0.1:1/{DEADMAN}",
        }  # fmt: skip
        monitor = stack.enter_context(running("monitor", "dlq", "--log-level", "debug", cwd=tmp_path, **where))
        wanted = {"1 message of ship (Boom)", "1 job of report (ValueError)"}
        eventually(lambda: all(any(each in title for title in slack.titles) for each in wanted), monitor.explain)
        monitor.says("webhook answers 503")
        monitor.says("PagerDuty did not answer")
        slack.answers(404, "no_service")
        said = holdfast("dlq", "groups", cwd=tmp_path, **where)
        said_too = holdfast("incidents", "list", cwd=tmp_path, **where)
        stopped = holdfast("dlq", "redrive", "--queue", name, "--to", "nobody", "--yes", cwd=tmp_path, **where)
        receipts = monitor.text + said.out + said.err + said_too.out + said_too.err + stopped.out + stopped.err
    pages = await dashboard(database, conn)
    kept = rows(conn, "SELECT content::text AS text FROM holdfast.notifications")
    kept += rows(conn, "SELECT title || details::text AS text FROM holdfast.incidents")
    kept += rows(conn, "SELECT coalesce(last_result::text, '') AS text FROM holdfast.monitors")
    told = pages + receipts + json.dumps(slack.posts) + "".join(each["text"] for each in kept)
    assert len(told) > 3000, "a grep of nothing finds nothing"
    assert [secret for secret in PLANTED if secret in told] == []
    assert "ReceiptHandle" not in told
    assert "000000000000" not in told, "the account's id"
