"""The watchdog stops this process before anybody may take its jobs. Clock, exit and the timer in C are fakes."""

import faulthandler
from typing import Any

import pytest

from holdfast.core.lease import LeaseTimings, Trust
from holdfast.services.pulse import Pulse
from holdfast.services.watchdog import FENCED_EXIT_CODE, STUCK_EXIT_CODE, TICK, Watchdog
from tests.services.helpers import until


class FakePulse(Pulse):
    """Its age is set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted_at, self.now = 1000.0, 1000.0

    def age(self) -> float:
        return self.now - self.accepted_at

    def beat(self) -> None:
        self.beat_accepted(self.now)


class Dog:
    """A watchdog and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, timings: LeaseTimings | None = None) -> None:
        self.pulse = FakePulse()
        self.running = 0
        self.turns = 0
        self.changes: list[tuple[Trust, float]] = []
        self.exits: list[int] = []
        self.timers: list[float | None] = []
        monkeypatch.setattr(faulthandler, "dump_traceback_later", self._arm)
        monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: self.timers.append(None))
        self.watchdog = Watchdog(
            self.pulse,
            timings or LeaseTimings(),
            running=lambda: self.running,
            changed=lambda trust, age: self.changes.append((trust, age)),
            loop_turns=lambda: self.turns,
            stuck_after=30.0,
            exit_process=self.exits.append,
        )

    def _arm(self, timeout: float, **options: Any) -> None:
        assert options == {"exit": True}
        self.timers.append(timeout)

    def at(self, age: float) -> None:
        self.pulse.now = self.pulse.accepted_at + age
        self.watchdog.step()


@pytest.fixture
def dog(monkeypatch: pytest.MonkeyPatch) -> Dog:
    return Dog(monkeypatch)


def test_each_change_of_trust_is_told_once(dog: Dog) -> None:
    for age in (0, 5, 9.9, 10, 12, 18, 19, 22, 30):
        dog.at(age)
    assert dog.changes == [(Trust.STOP_CLAIMING, 10), (Trust.CANCEL, 18), (Trust.EXIT, 22)]


def test_trust_comes_back_with_an_accepted_beat(dog: Dog) -> None:
    dog.at(19)
    dog.pulse.beat()
    dog.at(0)
    assert dog.changes == [(Trust.CANCEL, 19), (Trust.HEALTHY, 0)]


def test_the_process_ends_only_while_handlers_run(dog: Dog) -> None:
    dog.at(23)
    dog.at(1e6)
    assert dog.exits == []
    dog.running = 1
    dog.at(1e6)
    assert dog.exits == [FENCED_EXIT_CODE]


def test_handlers_that_run_do_not_end_the_process_before_its_time(dog: Dog) -> None:
    dog.running = 3
    dog.at(21.99)
    assert dog.exits == []
    dog.at(22)
    assert dog.exits == [FENCED_EXIT_CODE]


def test_the_deadline_in_c_is_armed_while_handlers_run_and_again_with_each_beat(dog: Dog) -> None:
    dog.at(1)
    assert dog.timers == []
    dog.running = 1
    dog.at(2)
    dog.at(3)
    assert dog.timers == [22 + 2 * TICK - 2]
    dog.pulse.beat()
    dog.at(0.5)
    assert dog.timers[1:] == [22 + 2 * TICK - 0.5]


@pytest.mark.parametrize("lost_after", [25.0, 3.0, 0.6, 600.0])
def test_the_deadline_in_c_stands_behind_our_own_exit_and_before_the_ledger_s(
    monkeypatch: pytest.MonkeyPatch, lost_after: float
) -> None:
    timings = LeaseTimings(beat_interval=lost_after / 5, lost_after=lost_after)
    dog = Dog(monkeypatch, timings)
    dog.running = 1
    dog.at(0)
    (timer,) = dog.timers
    assert timer is not None
    assert timings.exit_after < timer < timings.lost_after


def test_the_deadline_in_c_can_be_armed_before_a_handler_starts(dog: Dog) -> None:
    dog.running = 1
    dog.watchdog.handler_begins()
    dog.watchdog.handler_begins()
    dog.at(0.1)
    assert dog.timers == [22 + 2 * TICK]


def test_the_deadline_in_c_is_disarmed_when_the_last_handler_ends_and_at_the_stop(dog: Dog) -> None:
    dog.running = 1
    dog.at(1)
    dog.running = 0
    dog.at(2)
    dog.at(3)
    assert dog.timers[1:] == [None]
    dog.running = 1
    dog.at(4)
    dog.watchdog.stop()
    assert dog.timers[3:] == [None]


async def test_the_loop_looks_by_itself(dog: Dog) -> None:
    dog.pulse.now += 11
    dog.watchdog.start()
    await until(lambda: dog.changes)
    dog.watchdog.stop()
    assert dog.changes[0][0] is Trust.STOP_CLAIMING


def test_a_loop_that_stands_still_while_handlers_run_ends_the_process(dog: Dog) -> None:
    looks = int(30 / TICK)
    for _ in range(looks * 2):
        dog.at(0)
    assert dog.exits == [], "no handler runs"
    dog.running = 1
    for _ in range(looks - 1):
        dog.at(0)
    dog.turns += 1
    for _ in range(looks):
        dog.at(0)
    assert dog.exits == [], "the loop has turned in between"
    dog.at(0)
    assert dog.exits == [STUCK_EXIT_CODE]
