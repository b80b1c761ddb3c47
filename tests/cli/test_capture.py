"""`holdfast monitor dlq` with a queue to capture: by the command as a user runs it."""

import json
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.cli.command import eventually, holdfast, running
from tests.sqs.local import LocalSqs
from tests.support import Session, rows


def test_the_monitor_says_what_it_captures_and_does(
    database: str, conn: Session, tmp_path: Path, sqs: LocalSqs
) -> None:
    url = sqs.url("holdfast-bells-dlq")
    body = json.dumps({"type": "ship"})
    send = urllib.parse.urlencode({"Action": "SendMessage", "QueueUrl": url, "MessageBody": body})
    with urllib.request.urlopen(f"{sqs.endpoint}/?{send}", timeout=10) as answer:
        assert answer.status == 200
    where = {"DATABASE_URL": database, "HOLDFAST_DLQ_URLS": url, "HOLDFAST_DLQ_CAPTURE": url}
    with running("monitor", "dlq", cwd=tmp_path, **where) as monitor:
        assert "holdfast-bells-dlq: kept in the ledger, then deleted" in monitor.says("captures  ")
        kept = "SELECT body FROM holdfast.dead_letters WHERE captured_at IS NOT NULL"
        eventually(lambda: rows(conn, kept) == [{"body": body}], monitor.explain)


@pytest.mark.parametrize("given", ["orders dlq", "https://sqs.eu-west-1.amazonaws.com/123456789012/", "*"])
def test_what_is_no_queue_s_name_is_refused(tmp_path: Path, given: str) -> None:
    answer = holdfast("monitor", "dlq", cwd=tmp_path, DATABASE_URL="postgresql://u@h/x", HOLDFAST_DLQ_CAPTURE=given)
    assert answer.code == 2
    assert f"{given!r} is no queue's name" in " ".join(answer.err.split())
