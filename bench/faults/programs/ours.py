"""Holdfast: `ours.py enqueue FIRST COUNT SECONDS AGAIN`; its workers are `holdfast worker programs.ours:hf`."""

import os
import sys

from bench.faults.programs.notes import Notes
from holdfast import Holdfast

hf = Holdfast()
notes = Notes(os.environ["DATABASE_URL"])


@hf.job("fault", queue="bench")
async def fault(job: str, seconds: float, again: float) -> None:
    await notes.work(job, seconds, again)


def enqueue(first: int, count: int, seconds: float, again: float) -> None:
    hf.enqueue_many_sync(
        fault.prepare(job=f"j{number}", seconds=seconds, again=again) for number in range(first, first + count)
    )


if __name__ == "__main__":
    if sys.argv[1] == "enqueue":
        enqueue(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
