"""The demo's live view: what it says of each fault, and when it says that it is over."""

from datetime import UTC, datetime
from uuid import UUID

from rich.console import Console

from holdfast.cli.demo_report import Fault
from holdfast.cli.demo_view import View, describe_fault, is_over
from holdfast.postgres.reads import LiveWorker

AT = datetime(2030, 1, 1, tzinfo=UTC)
WORKER = UUID(int=7)


def kill(claimable: list[float], reclaimed: list[float]) -> Fault:
    return Fault("kill", AT, str(WORKER), 41, len(claimable), claimable, reclaimed)


def test_a_kill_is_told_with_its_rescue_and_both_times() -> None:
    assert describe_fault(kill([], [])) == "SIGKILL to worker 41: …"
    half = kill([0.01, 0.02], [0.3])
    assert describe_fault(half) == (
        "SIGKILL to worker 41: 2 jobs claimable after 0.02 s, 1 of them running again after 0.30 s"
    )
    whole = kill([0.01, 0.02], [0.3, 0.4])
    assert describe_fault(whole) == "SIGKILL to worker 41: 2 jobs claimable after 0.02 s, running again after 0.40 s"
    assert [is_over(fault) for fault in (kill([], []), half, whole)] == [False, False, True]


def test_a_restart_of_postgres_is_over_with_the_next_success() -> None:
    fault = Fault("restart of Postgres", AT)
    assert (describe_fault(fault), is_over(fault)) == ("Postgres killed and restarted: away…", False)
    fault.back_after = 1.44
    assert describe_fault(fault) == "Postgres killed and restarted: next job succeeded after 1.4 s"
    assert is_over(fault)


def test_what_is_over_is_news_once() -> None:
    view = View(10)
    over, waiting = kill([0.1], [0.2]), kill([0.1], [])
    assert view.news([waiting, over]) == [describe_fault(over)]
    assert view.news([waiting, over]) == []
    waiting.reclaimed = [0.5]
    assert view.news([waiting, over]) == [describe_fault(waiting)]


def test_the_view_shows_rate_states_workers_and_faults() -> None:
    clock = iter([0.0, 5.0])
    view = View(100, now=lambda: next(clock))
    workers = [(LiveWorker(WORKER, 41, 1), 8), (LiveWorker(UUID(int=8), 42, 1), 3)]
    console = Console(width=100, file=None, record=True, quiet=False)
    with console.capture() as shown:
        console.print(view.render({"succeeded": 50, "running": 11}, workers, [kill([0.1], [0.2])], [42]))
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert lines[0] == "█" * 20 + "·" * 20 + "    10 jobs a second"
    assert lines[1] == "50 of 100 done, running 11"
    assert lines[2] == "2 workers: 41 runs 8, 42 frozen"
    assert lines[3] == "SIGKILL to worker 41: 1 job claimable after 0.10 s, running again after 0.20 s"
