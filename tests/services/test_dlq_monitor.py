"""The dead-letter monitor against a real SQS server and a real ledger."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from holdfast.app import new_id
from holdfast.core.bell import make_bell
from holdfast.core.incident import Pace
from holdfast.events import DeadLettersSeen, IncidentChanged, QueueLost, Sinks
from holdfast.postgres.ledger import AsyncLedger
from holdfast.services.dlq_monitor import DlqMonitor
from holdfast.services.dlq_queues import Found, Sources
from holdfast.sqs.client import Sqs, queue_name
from tests.postgres.test_dead_letters import LATER, dies
from tests.services.helpers import Recorder
from tests.sqs.local import LocalSqs
from tests.support import Row, Session, advance, retry, rows, seconds


@pytest.fixture
async def client(sqs: LocalSqs) -> AsyncIterator[Sqs]:
    made = Sqs(sqs.url("any"))
    yield made
    await made.close()


async def queue(client: Sqs, **attributes: str) -> str:
    return await client.create(f"orders-{uuid4().hex[:8]}", attributes, {})


@asynccontextmanager
async def monitoring(
    database: str,
    *urls: str,
    sources: tuple[str, ...] = (),
    captured: tuple[str, ...] = (),
    keep_dead: float | None = None,
) -> AsyncIterator[tuple[DlqMonitor, Recorder]]:
    recorder, ledger = Recorder(), AsyncLedger(database)
    made = DlqMonitor(
        ledger, Sources(urls, sources, captured), ["log"], Sinks([recorder]), interval=300.0, new_id=new_id,
        retry_after=0.1, pace=Pace(group_interval=0.0), keep_dead=keep_dead,
    )  # fmt: skip
    try:
        yield made, recorder
    finally:
        await ledger.close()
        if made._sqs is not None:
            await made._sqs.close()


def told(conn: Session) -> list[tuple[str, str]]:
    found = rows(conn, "SELECT reason, content ->> 'title' AS title FROM holdfast.notifications ORDER BY created_at")
    return [(each["reason"], each["title"]) for each in found]


def stored(conn: Session) -> list[Row]:
    return rows(conn, "SELECT * FROM holdfast.dead_letters ORDER BY key")


async def test_57_messages_are_stored_grouped_and_told_once(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client)
    bodies = [json.dumps({"type": "ship" if n % 3 else "bill", "errorType": "Timeout", "n": n}) for n in range(57)]
    await client.send(url, bodies)
    async with monitoring(database, url) as (monitor, recorder):
        await monitor.look_at_queues()
        await monitor.look_at_queues()
    name = queue_name(url)
    assert sorted(told(conn)) == [
        ("first", f"19 messages of bill (Timeout) in {name}"),
        ("first", f"38 messages of ship (Timeout) in {name}"),
    ]
    assert {letter["body"] for letter in stored(conn)} == set(bodies)
    assert [each.new for each in recorder.of(DeadLettersSeen)] == [57, 0]
    assert (await client.attributes(url)).visible == 57


async def test_one_more_of_a_known_cause_is_told_and_an_emptied_queue_resolves(
    database: str, conn: Session, client: Sqs
) -> None:
    url = await queue(client)
    async with monitoring(database, url) as (monitor, _):
        await client.send(url, ['{"type": "ship"}'])
        await monitor.look_at_queues()
        await client.send(url, ['{"type": "ship"}'])
        await monitor.look_at_queues()
        messages = await client.receive(url)
        await client.delete(url, [message.receipt for message in messages])
        conn.execute("UPDATE holdfast.notifications SET attempts = 1, delivered_at = now()")
        await monitor.look_at_queues()
        await monitor.look_at_queues()
    name = queue_name(url)
    assert told(conn) == [
        ("first", f"1 message of ship in {name}"),
        ("worse", f"2 messages of ship in {name}"),
        ("resolved", f"Resolved: 2 messages of ship in {name}"),
    ]


async def test_the_dead_letter_queue_of_a_source_is_found_by_its_policy(
    database: str, conn: Session, client: Sqs
) -> None:
    dead = await queue(client)
    policy = json.dumps({"deadLetterTargetArn": (await client.attributes(dead)).arn, "maxReceiveCount": "5"})
    source = await queue(client, RedrivePolicy=policy)
    await client.send(dead, ["lost"])
    async with monitoring(database, sources=(source,)) as (monitor, _):
        await monitor.look_at_queues()
    assert [letter["queue"] for letter in stored(conn)] == [queue_name(dead)]


async def test_a_queue_that_cannot_be_looked_at_is_told_and_does_not_stop_the_others(
    database: str, conn: Session, client: Sqs, sqs: LocalSqs
) -> None:
    url = await queue(client)
    await client.send(url, ['{"type": "ship"}'])
    broken = sqs.url(f"nobody-{uuid4().hex[:8]}")
    async with monitoring(database, broken, url) as (monitor, recorder):
        before = monitor._queues
        seen: list[list[tuple[str, str]]] = []

        async def noted(sqs: Sqs, *, anew: bool = False) -> Found:
            seen.append(told(conn))
            return await before(sqs, anew=anew)

        monitor._queues = noted  # type: ignore[method-assign]
        await monitor.look_at_queues()
        letters = ("first", f"1 message of ship in {queue_name(url)}")
        assert seen == [[], [letters]], "what was found is told before the broken one is looked at again"
        await monitor.look_at_queues()
        assert sorted(told(conn)) == [
            letters,
            ("first", f"The dead letters of {queue_name(broken)} cannot be looked at"),
        ]
        assert len(recorder.of(QueueLost)) == 2
        await client.create(queue_name(broken), {}, {})
        await monitor.look_at_queues()
        assert len(told(conn)) == 2, "one look that succeeds may be chance"
        await monitor.look_at_queues()
    assert told(conn)[-1] == ("resolved", f"Resolved: The dead letters of {queue_name(broken)} cannot be looked at")


async def test_a_monitor_of_other_queues_leaves_what_it_did_not_look_at_open(
    database: str, conn: Session, client: Sqs, sqs: LocalSqs
) -> None:
    broken, url = sqs.url(f"nobody-{uuid4().hex[:8]}"), await queue(client)
    async with monitoring(database, broken) as (one, _), monitoring(database, url) as (other, _):
        await one.look_at_queues()
        await other.look_at_queues()
        assert told(conn) == [("first", f"The dead letters of {queue_name(broken)} cannot be looked at")]
        await client.create(queue_name(broken), {}, {})
        await one.look_at_queues()
        await one.look_at_queues()
    assert [reason for reason, _ in told(conn)] == ["first", "resolved"]


async def test_a_counted_queue_that_cannot_be_looked_at_any_more_is_not_told_as_over(
    database: str, conn: Session, client: Sqs, sqs: LocalSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = (await client.attributes(await queue(client))).arn
    url = await queue(client, RedrivePolicy=json.dumps({"deadLetterTargetArn": last, "maxReceiveCount": "3"}))
    await client.send(url, ["one", "two"])
    async with monitoring(database, url) as (monitor, _):
        await monitor.look_at_queues()
        monkeypatch.setattr("holdfast.sqs.client.CALL", 0.3)
        sqs.freeze()
        try:
            await monitor.look_at_queues()
        finally:
            sqs.thaw()
    assert told(conn) == [
        ("first", f"2 messages in {queue_name(url)}"),
        ("first", f"The dead letters of {queue_name(url)} cannot be looked at"),
    ]


async def test_a_moment_s_trouble_is_looked_at_once_more_and_not_told(
    database: str, conn: Session, client: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await queue(client)
    async with monitoring(database, url) as (monitor, _):
        assert monitor._sqs is not None
        attributes, calls = monitor._sqs.attributes, 0

        async def fails_once(url: str) -> object:
            nonlocal calls
            calls += 1
            return await attributes(url if calls > 1 else f"{url}-not-there")

        monkeypatch.setattr(monitor._sqs, "attributes", fails_once)
        await monitor.look_at_queues()
    assert calls > 1
    assert told(conn) == []


async def test_of_600_causes_each_is_told_and_none_is_taken_for_over(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client)
    await client.send(url, [json.dumps({"type": f"kind-{n}"}) for n in range(600)])
    async with monitoring(database, url) as (monitor, _):
        for _ in range(3):
            await monitor.look_at_queues()
    assert [reason for reason, _ in told(conn)] == ["first"] * 600


async def test_dead_jobs_are_told_while_a_queue_hangs(
    database: str, conn: Session, client: Sqs, sqs: LocalSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await queue(client)
    dies(conn)
    advance(conn, LATER)
    monkeypatch.setattr("holdfast.sqs.client.CALL", 0.3)
    sqs.freeze()
    try:
        async with monitoring(database, url, sources=(url,)) as (monitor, _):
            await monitor.look_at_queues()
    finally:
        sqs.thaw()
    assert told(conn)[0] == ("first", "1 job of report (ValueError) went dead on default")
    assert ("first", f"The dead letters of {queue_name(url)} cannot be looked at") in told(conn)


async def test_a_queue_that_may_only_be_counted_is_told_by_its_count(database: str, conn: Session, client: Sqs) -> None:
    last = (await client.attributes(await queue(client))).arn
    url = await queue(client, RedrivePolicy=json.dumps({"deadLetterTargetArn": last, "maxReceiveCount": "3"}))
    await client.send(url, ["one", "two"])
    async with monitoring(database, url) as (monitor, _):
        await monitor.look_at_queues()
        await monitor.look_at_queues()
    assert told(conn) == [("first", f"2 messages in {queue_name(url)}")]


async def test_a_foreign_fifo_queue_s_dead_letters_are_found_counted_and_left_as_they_are(
    database: str, conn: Session, client: Sqs
) -> None:
    """A look would lease the first messages of each group, and nobody else could take one of these groups meanwhile."""
    name = uuid4().hex[:8]
    dead = await client.create(f"dead-{name}.fifo", {"FifoQueue": "true"}, {})
    policy = json.dumps({"deadLetterTargetArn": (await client.attributes(dead)).arn, "maxReceiveCount": "3"})
    source = await client.create(f"orders-{name}.fifo", {"FifoQueue": "true", "RedrivePolicy": policy}, {})
    entries = [
        {"Id": str(n), "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": str(n)} for n in (1, 2)
    ]
    assert await client.send_entries(dead, entries) == {}
    async with monitoring(database, sources=(source,)) as (monitor, _):
        await monitor.look_at_queues()
        await monitor.look_at_queues()
    assert told(conn) == [("first", f"2 messages in dead-{name}.fifo")]
    assert stored(conn) == []
    received = await client.receive(dead)
    assert [each.received for each in received] == [1, 1], "nobody had received them before"


async def test_jobs_that_went_dead_are_told_once_and_resolved_when_none_is_left(database: str, conn: Session) -> None:
    ids = [dies(conn) for _ in range(3)]
    advance(conn, LATER)
    async with monitoring(database) as (one, _), monitoring(database) as (other, recorder):
        await one.look_at_jobs()
        await other.look_at_jobs()
        retry(conn, *ids)
        await one.look_at_jobs()
        await other.look_at_jobs()
    assert told(conn) == [
        ("first", "3 jobs of report (ValueError) went dead on default"),
        ("resolved", "Resolved: 3 jobs of report (ValueError) went dead on default"),
    ]
    assert [each.action for each in recorder.of(IncidentChanged)] == []


async def test_no_alert_holds_what_a_body_or_an_error_said(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client)
    await client.send(
        url, [json.dumps({"type": "ship", "error": {"type": "E", "message": "token=hunter2"}, "card": "4111"})]
    )
    dies(conn)
    advance(conn, LATER)
    async with monitoring(database, url) as (monitor, recorder):
        await monitor.look_at_jobs()
        await monitor.look_at_queues()
    contents = rows(conn, "SELECT content::text AS text FROM holdfast.notifications")
    everything = "".join(each["text"] for each in contents) + str(recorder.events)
    assert len(contents) == 2
    assert not {"hunter2", "4111", "000000000000"} & {
        word for word in ("hunter2", "4111", "000000000000") if word in everything
    }


async def test_a_hostile_body_is_kept_and_harms_nothing(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client)
    await client.send(url, ["{" * 5000, "<!channel> \ud7ff", json.dumps({"type": "<!channel>" * 40})])
    async with monitoring(database, url) as (monitor, _):
        await monitor.look_at_queues()
    assert len(stored(conn)) == 3


async def test_the_loss_of_what_is_left_in_a_queue_is_told_in_time_and_again_when_it_is_near(
    database: str, conn: Session, client: Sqs
) -> None:
    url = await queue(client, MessageRetentionPeriod=str(20 * 3600))
    await client.send(url, ['{"type": "ship"}'])
    async with monitoring(database, url) as (monitor, _):
        await monitor.look_at_queues()
        lost = f"The oldest message of {queue_name(url)} is lost"
        assert [title for _, title in told(conn) if title.startswith(lost)] == [f"{lost} in 20.0 h"]
        conn.execute("UPDATE holdfast.notifications SET attempts = 1, delivered_at = now()")
        advance(conn, seconds(17 * 3600))
        await monitor.look_at_queues()
        assert ("worse", f"{lost} in 3.0 h") in told(conn)


async def test_the_loss_of_what_is_only_counted_is_told_too_and_is_over_when_nothing_is_there(
    database: str, conn: Session, client: Sqs
) -> None:
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true", "MessageRetentionPeriod": str(48 * 3600)}
    url = await client.create(f"orders-{uuid4().hex[:8]}.fifo", attributes, {})
    await client.send_entries(url, [{"Id": "0", "MessageBody": "letter", "MessageGroupId": "a"}])
    lost = f"The oldest message of {queue_name(url)} is lost"
    async with monitoring(database, url) as (monitor, _):
        await monitor.look_at_queues()
        assert [title for _, title in told(conn) if title.startswith(lost)] == []
        advance(conn, seconds(25 * 3600))
        await monitor.look_at_queues()
        assert ("first", f"{lost} in 23.0 h, or sooner") in told(conn)
        advance(conn, seconds(20 * 3600))
        await monitor.look_at_queues()
        assert ("worse", f"{lost} in 3.0 h, or sooner") in told(conn)
        (message,) = await client.receive(url)
        await client.delete(url, [message.receipt])
        for _ in range(2):
            await monitor.look_at_queues()
        assert ("resolved", f"Resolved: {lost} in 3.0 h, or sooner") in told(conn)


async def test_dead_jobs_are_told_of_before_retention_removes_them(database: str, conn: Session) -> None:
    dies(conn)
    async with monitoring(database, keep_dead=10 * 86400.0) as (monitor, _):
        advance(conn, seconds(8.9 * 86400))
        await monitor.look_at_jobs()
        soon = "1 dead job will be removed within 1.0 d"
        assert soon not in [title for _, title in told(conn)]
        advance(conn, seconds(0.2 * 86400))
        for _ in range(2):
            await monitor.look_at_jobs()
        assert [each for each in told(conn) if soon in each[1]] == [("first", soon)]
        conn.execute("SELECT holdfast.prune('7 days', '9 days')")
        await monitor.look_at_jobs()
        assert ("resolved", f"Resolved: {soon}") in told(conn)


async def test_what_was_captured_is_not_lost_when_its_queue_forgets(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client, MessageRetentionPeriod="3600")
    await client.send(url, ['{"type": "ship"}'])
    recorder, ledger = Recorder(), AsyncLedger(database)
    sources = Sources((url,), (), (queue_name(url),))
    monitor = DlqMonitor(ledger, sources, ["log"], Sinks([recorder]), interval=300.0, new_id=new_id)
    await monitor.look_at_queues()
    await ledger.close()
    assert [title for _, title in told(conn)] == [f"1 message of ship in {queue_name(url)}"]


async def test_two_monitors_of_different_queues_both_get_their_turns(database: str, conn: Session, client: Sqs) -> None:
    """With one turn for all, whoever is quicker would look each time, and at its own queues only."""
    one, other = await queue(client), await queue(client)
    for url in (one, other):
        await client.send(url, ["letter"])
    async with monitoring(database, one) as (first, _), monitoring(database, other) as (second, _):
        for monitor in (first, second):
            assert monitor._sqs is not None
            await monitor._look_if_due(monitor._sqs)
            advance(conn, seconds(16))
    assert {letter["queue"] for letter in stored(conn)} == {queue_name(one), queue_name(other)}


async def test_one_queue_is_looked_at_by_one_of_two_processes_in_each_interval(
    database: str, conn: Session, client: Sqs
) -> None:
    url = await queue(client)
    async with monitoring(database, url) as (one, mine), monitoring(database, url) as (other, theirs):
        for monitor in (one, other, one):
            assert monitor._sqs is not None
            await monitor._look_if_due(monitor._sqs)
            advance(conn, seconds(16))
        assert len([*mine.of(DeadLettersSeen), *theirs.of(DeadLettersSeen)]) == 1
        advance(conn, seconds(300))
        assert other._sqs is not None
        await other._look_if_due(other._sqs)
        assert len(theirs.of(DeadLettersSeen)) == 1


async def test_what_is_open_about_a_queue_that_nobody_watches_any_more_is_over(
    database: str, conn: Session, client: Sqs, sqs: LocalSqs
) -> None:
    broken, url = sqs.url(f"nobody-{uuid4().hex[:8]}"), await queue(client)
    async with monitoring(database, broken) as (one, _):
        await one.look_at_queues()
    async with monitoring(database, url) as (other, _):
        await other.look_at_queues()
        await other.look_at_queues()
        assert [reason for reason, _ in told(conn)] == ["first"]
        advance(conn, seconds(3 * 300 + 3601))
        await other.look_at_queues()
        await other.look_at_queues()
    assert [reason for reason, _ in told(conn)] == ["first", "resolved"]


async def test_a_bell_of_ours_is_no_dead_letter(database: str, conn: Session, client: Sqs) -> None:
    url = await queue(client)
    await client.send(url, [make_bell("mail"), '{"type": "ship"}'])
    async with monitoring(database, url) as (monitor, _):
        await monitor.look_at_queues()
    assert [letter["kind"] for letter in stored(conn)] == ["ship"]
