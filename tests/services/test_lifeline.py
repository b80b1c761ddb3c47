"""With the ledger gone people are told from memory, once a machine; a dead man's switch is asked while all is well."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from holdfast.app import new_id
from holdfast.events import NotificationFailed, Sinks
from holdfast.notify.slack import SlackChannel
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.lifeline import Lifeline
from tests.notify.slack_server import SlackServer
from tests.services.helpers import Recorder
from tests.support import Session, row, rows

NOWHERE = "host=127.0.0.1 port=1 dbname=x user=x"


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    made = SlackServer()
    yield made
    made.close()


def lifeline(
    folder: Path, slack: SlackServer, dsn: str = NOWHERE, *, deadman: str | None = None, silent: float = 90.0
) -> tuple[Lifeline, Recorder]:
    recorder = Recorder()
    made = Lifeline(
        AsyncLedger(dsn),
        {"slack": SlackChannel(SecretStr(slack.webhook), deadline=2.0)},
        Sinks([recorder]),
        folder=folder,
        new_id=new_id,
        deadman=None if deadman is None else SecretStr(deadman),
        every=2.0,
        between=0.01,
    )
    made._answered_at = time.monotonic() - silent
    return made, recorder


async def test_a_ledger_that_is_gone_is_told_once_a_machine_and_its_return_too(
    database: str, conn: Session, slack: SlackServer, tmp_path: Path
) -> None:
    one, other = lifeline(tmp_path, slack)[0], lifeline(tmp_path, slack)[0]
    for each in (one, other, one):
        await each.step()
    restarted, _ = lifeline(tmp_path, slack)
    await restarted.step()
    assert slack.titles == ["The ledger's Postgres has not answered for 1.5 min"]
    for each in (restarted, other):
        each._ledger = AsyncLedger(database)
        await each.step()
    assert slack.titles[1:] == ["Resolved: the ledger's Postgres answers again, after 1.5 min"]
    written = row(conn, "SELECT kind, status, arrivals FROM holdfast.incidents")
    assert written == {"kind": "ledger_gone", "status": "resolved", "arrivals": 1}
    assert rows(conn, "SELECT FROM holdfast.notifications") == [], "they were told already"


async def test_a_moment_without_an_answer_is_told_to_nobody(slack: SlackServer, tmp_path: Path) -> None:
    made, _ = lifeline(tmp_path, slack, silent=30.0)
    await made.step()
    assert slack.titles == []


async def test_a_channel_that_is_away_too_is_tried_some_times(slack: SlackServer, tmp_path: Path) -> None:
    slack.answers(503, "")
    made, recorder = lifeline(tmp_path, slack)
    await made.step()
    assert len(recorder.of(NotificationFailed)) == 5


async def test_the_dead_man_s_switch_is_asked_while_stuck_jobs_are_swept(
    database: str, conn: Session, slack: SlackServer, tmp_path: Path
) -> None:
    asked = slack.webhook
    made, recorder = lifeline(tmp_path, slack, database, deadman=asked)
    await made.step()
    assert slack.gets == 0, "nobody sweeps"
    conn.execute("UPDATE holdfast.monitors SET swept_at = holdfast.clock() WHERE name = 'rescue_stale_jobs'")
    await made.step()
    await made.step()
    assert slack.gets == 1, "each minute"
    made._signed_at = float("-inf")
    slack.answers(500, "")
    await made.step()
    (failed,) = recorder.of(NotificationFailed)
    assert failed.error == "HOLDFAST_DEADMAN_URL answers 500"
    made._signed_at = float("-inf")
    made._ledger = AsyncLedger(NOWHERE)
    made._answered_at = time.monotonic()
    await made.step()
    assert slack.gets == 2, "not while the ledger is gone"
