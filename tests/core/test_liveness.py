"""Liveness is progress: a process that exists and does nothing is stuck, one that works for long is not."""

import pytest

from holdfast.core.liveness import STUCK_AFTER, ProcessState, find_stuck


@pytest.mark.parametrize(
    ("progress_ago", "is_stuck"), [(0.0, False), (STUCK_AFTER, False), (STUCK_AFTER + 1, True), (None, False)]
)
def test_a_process_is_stuck_when_its_loop_has_not_turned(progress_ago: float | None, is_stuck: bool) -> None:
    state = ProcessState("worker-1", 7, 1000.0, 0.1, progress_ago)
    assert bool(find_stuck([state])) is is_stuck
