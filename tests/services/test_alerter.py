"""The alerter against a server that plays Slack: stored first, told at least once, and never lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from holdfast.app import new_id
from holdfast.events import NotificationDelivered, NotificationFailed, Sinks
from holdfast.notify.slack import SlackChannel
from holdfast.postgres.dead_letters import adopt_notifications
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.alerter import Alerter
from tests.notify.slack_server import SlackServer
from tests.services.helpers import Recorder, until
from tests.support import Row, Session, advance, row, rows, seconds


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    made = SlackServer()
    yield made
    made.close()


@asynccontextmanager
async def alerting(database: str, slack: SlackServer) -> AsyncIterator[tuple[Alerter, Recorder]]:
    recorder, ledger = Recorder(), AsyncLedger(database)
    channel = SlackChannel(SecretStr(slack.webhook), deadline=2.0)
    try:
        yield Alerter(ledger, {"slack": channel}, Sinks([recorder]), new_id=new_id, pace=0.0), recorder
    finally:
        await channel.close()
        await ledger.close()


def tell(conn: Session, title: str) -> None:
    change = {
        "id": str(uuid4()), "action": "open", "kind": "blind", "key": title, "title": title, "arrivals": 1,
        "content": {"title": title},
    }  # fmt: skip
    conn.execute("SELECT holdfast.record_incidents(%s, ARRAY['slack'])", (Jsonb([change]),))


def notification(conn: Session) -> Row:
    return row(
        conn,
        "SELECT *, due_at - holdfast.clock() AS due_in FROM holdfast.notifications WHERE content ->> 'title' = 'one'",
    )


async def test_what_is_stored_is_posted_once(database: str, conn: Session, slack: SlackServer) -> None:
    tell(conn, "one")
    tell(conn, "two")
    async with alerting(database, slack) as (alerter, recorder):
        assert await alerter.step() == 2
        assert await alerter.step() == 0
    assert sorted(slack.titles) == ["one", "two"]
    assert len(recorder.of(NotificationDelivered)) == 2


async def test_two_alerters_post_each_once(database: str, conn: Session, slack: SlackServer) -> None:
    async with alerting(database, slack) as (one, _), alerting(database, slack) as (other, _):
        for number in range(8):
            tell(conn, f"incident {number}")
            if number % 2:
                await asyncio.gather(one.step(), other.step())
    assert sorted(slack.titles) == [f"incident {number}" for number in range(8)]


async def test_an_outage_of_slack_delays_and_loses_nothing(database: str, conn: Session, slack: SlackServer) -> None:
    tell(conn, "one")
    slack.answers(500, "rollup_error")
    async with alerting(database, slack) as (alerter, recorder):
        for pause in (5, 10, 20):
            assert await alerter.step() == 0
            stored = notification(conn)
            assert stored["error"] == "Slack answers 500 rollup_error"
            assert pause - 3 < stored["due_in"].total_seconds() <= pause
            advance(conn, seconds(pause))
        slack.answers(200)
        assert await alerter.step() == 1
    assert slack.titles == ["one"]
    assert notification(conn)["error"] is None
    assert [each.attempts for each in recorder.of(NotificationFailed)] == [1, 2, 3]


async def test_what_slack_asks_for_is_given(database: str, conn: Session, slack: SlackServer) -> None:
    tell(conn, "one")
    slack.answers(429, "ratelimited", {"Retry-After": "90"})
    async with alerting(database, slack) as (alerter, _):
        await alerter.step()
    assert 85 < notification(conn)["due_in"].total_seconds() <= 90


async def test_what_slack_asks_for_holds_for_all_that_waits_and_in_every_process(
    database: str, conn: Session, slack: SlackServer
) -> None:
    for number in range(4):
        tell(conn, f"incident {number}")
    slack.answers(429, "ratelimited", {"Retry-After": "90"})
    async with alerting(database, slack) as (one, recorder), alerting(database, slack) as (other, of_other):
        await one.step()
        slack.answers(200)
        assert await other.step() == 0, "within the pause that one of them was asked for"
        assert len(recorder.of(NotificationFailed)) == 1
        advance(conn, seconds(91))
        assert await other.step() == 4
        assert len(of_other.of(NotificationDelivered)) == 4


async def test_the_end_of_an_incident_is_never_told_before_its_beginning(
    database: str, conn: Session, slack: SlackServer
) -> None:
    tell(conn, "one")
    slack.answers(500)
    async with alerting(database, slack) as (alerter, _):
        await alerter.step()
        slack.answers(200)
        advance(conn, seconds(1))
        change = {"id": str(uuid4()), "action": "resolve", "kind": "blind", "key": "one", "content": {"title": "Over"}}
        conn.execute("SELECT holdfast.record_incidents(%s, ARRAY['slack'])", (Jsonb([change]),))
        assert await alerter.step() == 0
        advance(conn, seconds(10))
        await alerter.step()
        await alerter.step()
    assert slack.titles == ["one", "Over"]


async def test_a_broken_channel_is_said_and_tried_from_time_to_time(
    database: str, conn: Session, slack: SlackServer
) -> None:
    tell(conn, "one")
    slack.answers(404, "no_service")
    async with alerting(database, slack) as (alerter, _):
        await alerter.step()
        report = row(conn, "SELECT holdfast.health_report() AS found")["found"]["notifications"]
        assert (report["failing"], report["last_error"]) == (1, "Slack refuses: 404 no_service")
        assert notification(conn)["due_in"].total_seconds() > 250
        advance(conn, seconds(300))
        slack.answers(200)
        assert await alerter.step() == 1
    assert row(conn, "SELECT holdfast.health_report() AS found")["found"]["notifications"]["waiting"] == 0


async def test_an_alerter_that_died_in_the_middle_leaves_it_to_the_next(
    database: str, conn: Session, slack: SlackServer
) -> None:
    tell(conn, "one")
    rows(conn, "SELECT * FROM holdfast.claim_notifications(ARRAY['slack'], 10, '60 s')")
    async with alerting(database, slack) as (alerter, _):
        assert await alerter.step() == 0
        advance(conn, seconds(61))
        assert await alerter.step() == 1


async def test_what_waits_for_a_channel_that_nobody_has_any_more_goes_to_one_that_there_is(
    database: str, conn: Session, slack: SlackServer
) -> None:
    tell(conn, "one")
    conn.execute("UPDATE holdfast.notifications SET channel = 'log'")
    ledger = AsyncLedger(database)
    advance(conn, seconds(23 * 3600))
    assert await ledger.call(adopt_notifications("slack")) == []
    await ledger.close()
    advance(conn, seconds(2 * 3600))
    async with alerting(database, slack) as (alerter, _):
        running = asyncio.create_task(alerter.run())
        try:
            await until(lambda: slack.titles == ["one"])
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_the_webhook_is_in_nothing_that_is_kept_or_told(
    database: str, conn: Session, slack: SlackServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tell(conn, "one")
    slack.drops()
    async with alerting(database, slack) as (alerter, recorder):
        await alerter.step()
    assert "secret-of-slack" not in json.dumps(notification(conn), default=str)
    assert "secret-of-slack" not in str(recorder.events) + caplog.text


async def test_many_at_once_are_a_digest_and_none_is_posted_by_itself(
    database: str, conn: Session, slack: SlackServer
) -> None:
    for number in range(250):
        tell(conn, f"incident {number:03}")
    async with alerting(database, slack) as (alerter, recorder):
        assert [await alerter.step() for _ in range(4)] == [100, 100, 50, 0]
    assert slack.titles == ["100 incidents: 100 new", "100 incidents: 100 new", "50 incidents: 50 new"]
    assert len(recorder.of(NotificationDelivered)) == 250


async def test_a_digest_that_is_refused_loses_none(database: str, conn: Session, slack: SlackServer) -> None:
    for number in range(20):
        tell(conn, f"incident {number}")
    slack.answers(503, "")
    async with alerting(database, slack) as (alerter, _):
        assert await alerter.step() == 0
        slack.answers(200, "ok")
        advance(conn, seconds(6))
        assert await alerter.step() == 20
    assert len(rows(conn, "SELECT FROM holdfast.notifications WHERE delivered_at IS NULL")) == 0


async def test_that_a_channel_refuses_is_an_incident_until_it_takes_something_again(
    database: str, conn: Session, slack: SlackServer
) -> None:
    tell(conn, "one")
    slack.answers(404, "no_service")
    async with alerting(database, slack) as (alerter, _):
        await alerter.step()
        opened = row(conn, "SELECT title, status FROM holdfast.incidents WHERE kind = 'notification_failing'")
        assert opened == {"title": "Nobody is told over slack: Slack refuses: 404 no_service", "status": "open"}
        slack.answers(200)
        advance(conn, seconds(301))
        await alerter.step()
    assert (
        row(conn, "SELECT status FROM holdfast.incidents WHERE kind = 'notification_failing'")["status"] == "resolved"
    )
