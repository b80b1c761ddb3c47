"""The checker sees what it is there for: each promise is broken by hand once, after a fault that broke none."""

import signal

import pytest

from tests.chaos.checker import check
from tests.chaos.harness import Chaos, send, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

#: In this order: the breach of `written_after_taken` rewrites a claim that the others are judged by.
BREAKS = {
    "ran_on_after_gone": "UPDATE holdfast.workers SET gone_at = started_at - interval '1 minute' WHERE gone_is_crash",
    "lost": "UPDATE holdfast.jobs SET status = 'queued', finished_at = NULL"
    " WHERE id = (SELECT id FROM holdfast.jobs WHERE kind = 'innocent' LIMIT 1)",
    "innocents_dead": "UPDATE holdfast.jobs SET status = 'dead'"
    " WHERE id = (SELECT id FROM holdfast.jobs WHERE kind = 'innocent' AND status = 'succeeded' LIMIT 1)",
    "false_rescues": "UPDATE holdfast.workers SET gone_reason = 'lapsed', seen_at = gone_at WHERE gone_is_crash",
    "doubled_effects": "INSERT INTO chaos.effects (job_id, lease) SELECT job_id, lease FROM chaos.effects LIMIT 1",
    "shrunk_leases": "UPDATE holdfast.jobs SET lease = lease - 1"
    " WHERE id = (SELECT id FROM holdfast.jobs WHERE kind = 'innocent' AND status = 'succeeded' LIMIT 1)",
    "written_after_taken": "UPDATE chaos.history SET at = clock_timestamp(), lease_before = lease,"
    " settled_as = 'complete', status_before = 'running' WHERE seq = (SELECT min(h.seq) FROM chaos.history h"
    " JOIN chaos.history x ON x.job_id = h.job_id AND x.lease > h.lease AND x.settled_as = 'complete'"
    " WHERE h.status = 'running')",
}


def test_the_checker_tells_each_broken_promise(chaos: Chaos) -> None:
    chaos.start(processes=2, slots=10)
    chaos.submit("innocent", 40, 0.5)
    chaos.submit("paid", 4, 0.1)
    victim = chaos.busy()
    until(lambda: any(trace.pid == victim.pid for trace in chaos.traces()), "its handlers have begun")
    send(signal.SIGKILL, victim.pid)
    chaos.all_ended()
    before = check(chaos)
    assert before.problems == []
    for member in chaos.members:
        member.kill()
    for name, statement in BREAKS.items():
        count = getattr(check(chaos), name)
        chaos.ask(statement)
        after = check(chaos)
        assert getattr(after, name) > count, f"{name} was not seen"
        assert any(name.replace("_", " ") in problem for problem in after.problems)
