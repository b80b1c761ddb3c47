"""The whole system under everything at once: what is lost, what is told to whom, and whether health says the truth."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.checker import Times, check
from tests.chaos.conftest import Prove
from tests.chaos.harness import Chaos, hold_for, until
from tests.chaos.system import GREEDY, ROUND, System
from tests.notify.slack_server import SlackServer
from tests.sqs.local import local_sqs

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(500)]

#: Seconds: between two faults, and of Postgres's absence at the end.
BETWEEN, AWAY = 2.0, 14
#: Seconds until health must know that the ledger is away: a ping each second or so, and a verdict that holds for 6.
KNOWN = 10.0
#: Seconds of grants that a crash of Postgres may cost (docs/rate-limits.md).
FORGOTTEN = 0.6
#: Seconds for which what ends is held against what is enqueued.
PACE = 10.0


@pytest.fixture
def system(chaos: Chaos) -> Iterator[System]:
    slack = SlackServer()
    with local_sqs() as sqs:
        made = System(chaos, slack, sqs)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            chaos.close()
            slack.close()


def test_everything_at_once_loses_no_job_and_tells_each_incident(system: System, chaos: Chaos, prove: Prove) -> None:
    faults = [
        system.kill_a_worker, system.kill_a_worker, system.freeze_a_worker, system.kill_a_monitor, system.kill_the_api,
        system.restart_postgres, system.freeze_postgres, system.end_all_sessions, system.freeze_sqs,
        system.purge_the_bells, system.slack_fails, system.somebody_s_message_dies,
    ]  # fmt: skip
    hold_for(5)
    fault_at = time.time()
    done: list[str] = []
    for fault in chaos.rng.sample(faults, len(faults)):  # each of them once, in some order
        done.append(fault.__name__)
        fault()
        hold_for(BETWEEN)
    print("faults:", ", ".join(done))
    with system.postgres_away(AWAY) as (gone_at, back_at):
        pass
    until(lambda: chaos.unfinished() < 60, "the backlog is worked off", seconds=120)
    until(lambda: system.seen[-1].health == 200, "health is well again", seconds=60)
    it_keeps_pace(chaos)
    system.dead_messages_are_taken_away()
    died = "SELECT bool_and(status = 'resolved') FROM holdfast.incidents WHERE kind = 'dead_letters'"
    until(lambda: chaos.value(died), "the incident of the message that died is over", seconds=120)
    system.stop()
    chaos.all_ended(seconds=120)
    times = Times()
    times.recovered(chaos, gone_at, back_at)
    health_said_the_truth(system, gone_at, back_at)
    nobody_was_let_in_too_often(system)
    each_incident_was_told(system, chaos)
    # A frozen worker is stopped by force, and may run on until it sees that it is gone.
    workers = [row["id"] for row in chaos.ask("SELECT id FROM holdfast.workers")]
    prove("everything at once, the whole system", check(chaos, frozen=workers), times, held=back_at - fault_at)


def it_keeps_pace(chaos: Chaos) -> None:
    """As many jobs end as are enqueued, after all of that: at least 95 %."""
    began, ended = len(chaos.submitted), len(chaos.submitted) - chaos.unfinished()
    hold_for(PACE)
    enqueued, done = len(chaos.submitted) - began, len(chaos.submitted) - chaos.unfinished() - ended
    assert done >= 0.95 * enqueued - 2 * ROUND, f"{done} jobs ended in {PACE:g} s, and {enqueued} were enqueued"


def nobody_was_let_in_too_often(system: System) -> None:
    """100 requests in 60 s: from the sending of the first to the answer to the last, whenever the API decided.

    A Postgres that is killed forgets what was granted in its last 0.6 s: the limiter's commits are not waited for.
    """
    admitted = [(sent, answered) for sent, answered, code in system.asked if code == 200]
    assert len(admitted) > 100, "he was not let in for long enough to tell"
    assert 429 in {code for _, _, code in system.asked}
    most = max(
        sum(1 for sent, answered in admitted if first <= sent and answered < first + 60) for first, _ in admitted
    )
    assert most <= 100 + FORGOTTEN / GREEDY


def health_said_the_truth(system: System, gone_at: float, back_at: float) -> None:
    """It answered whenever somebody listened; it said `fail` while Postgres was away."""
    slow = [look for look in system.seen if look.took > 2.5]
    assert slow == [], "a look at health took long"
    assert {look.live for look in system.seen} <= {200, 0}
    away = [look.health for look in system.seen if gone_at + KNOWN < look.at < back_at - 0.5]
    assert away
    assert set(away) == {503}


def each_incident_was_told(system: System, chaos: Chaos) -> None:
    """Decided once: one `first` an incident and opening, and never more ends than beginnings; all of it delivered.

    That of the message that died was told twice: when it arrived, and when it was gone.
    """

    def waiting() -> list[dict[str, Any]]:
        return chaos.ask("SELECT reason, error FROM holdfast.notifications WHERE delivered_at IS NULL")

    until(lambda: not waiting(), "all notifications are delivered", seconds=120)
    told = chaos.ask(
        "SELECT i.kind, i.key, i.reopened, i.status,"
        " count(*) FILTER (WHERE n.reason = 'first') AS begun, count(*) FILTER (WHERE n.reason = 'resolved') AS over"
        " FROM holdfast.incidents i LEFT JOIN holdfast.notifications n ON n.incident_id = i.id AND n.channel = 'slack'"
        " GROUP BY i.id"
    )
    assert told, chaos.ask("SELECT name, swept_at, last_result FROM holdfast.monitors")
    wrong = [row for row in told if row["begun"] > 1 + row["reopened"] or row["over"] > row["begun"]]
    assert wrong == []
    (died,) = [row for row in told if row["kind"] == "dead_letters"]
    assert (died["begun"], died["over"], died["reopened"]) == (1, 1, 0)
    assert sum("OutOfStock" in json.dumps(post) for post in system.slack.posts) == 2
