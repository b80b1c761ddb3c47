"""Whether the processes of a supervisor make progress: decided from when each last did, not from whether it exists."""

from collections.abc import Sequence
from dataclasses import dataclass

#: Seconds without a turn of its main loop after which a process is stuck. A turn takes a poll, or a call's deadline and
#: a pause while the database is away; neither a long job nor an outage comes near it.
STUCK_AFTER = 60.0


@dataclass(frozen=True)
class ProcessState:
    """One process: its name, its pid, and the seconds since it started, was heard, and last made progress.

    `progress_ago` is None for a process that has no loop of its own to tell of. `has_begun`: it was heard since it was
    started. `is_on_demand`: it exists only while it is needed.
    """

    name: str
    pid: int
    alive_for: float
    heard_ago: float
    progress_ago: float | None
    has_begun: bool = True
    is_on_demand: bool = False


def find_stuck(processes: Sequence[ProcessState], stuck_after: float = STUCK_AFTER) -> list[str]:
    """What is wrong, a sentence each; nothing where all make progress.

    >>> find_stuck([ProcessState("worker-1", 7, alive_for=90.0, heard_ago=0.1, progress_ago=75.0)])
    ['worker-1 (pid 7) is up, and its main loop has not turned for 75 s']
    """
    return [
        f"{each.name} (pid {each.pid}) is up, and its main loop has not turned for {each.progress_ago:.0f} s"
        for each in processes
        if each.progress_ago is not None and each.progress_ago > stuck_after
    ]
