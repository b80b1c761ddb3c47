"""Sharing round trips."""

import asyncio
from collections.abc import Sequence

import pytest

from holdfast.core.batches import MOST_BYTES
from holdfast.services.batcher import Batcher
from tests.services.helpers import until


class Trips:
    """Round trips that end when the test says so; each item's result is its square."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refuse: set[int] = set()

    async def send(self, batch: Sequence[int]) -> list[int]:
        self.made.append(list(batch))
        await self.open.wait()
        if self.refuse & set(batch):
            raise ValueError(f"no {sorted(self.refuse & set(batch))}")
        return [item * item for item in batch]


async def test_an_idle_caller_travels_alone_and_at_once() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    assert await batcher.submit(3) == 9
    assert await batcher.submit(4) == 16
    assert trips.made == [[3], [4]]


async def test_what_is_submitted_together_travels_together() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    assert await asyncio.gather(*(batcher.submit(n) for n in range(50))) == [n * n for n in range(50)]
    assert trips.made == [list(range(50))]


async def test_what_comes_while_a_trip_is_under_way_travels_in_the_next() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    trips.open.clear()
    first = batcher.submit(0)
    await until(lambda: trips.made)
    others = [batcher.submit(n) for n in (1, 2, 3)]
    trips.open.set()
    assert await asyncio.gather(first, *others) == [0, 1, 4, 9]
    assert trips.made == [[0], [1, 2, 3]]


async def test_a_batch_has_a_greatest_size_and_one_travels_at_a_time() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_items=4)
    trips.open.clear()
    waiting = [batcher.submit(n) for n in range(10)]
    await until(lambda: trips.made)
    assert trips.made == [[0, 1, 2, 3]]
    trips.open.set()
    await asyncio.gather(*waiting)
    assert [len(batch) for batch in trips.made] == [4, 4, 2]


async def test_a_batch_has_a_greatest_weight_and_what_is_heavier_travels_alone() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, weigh=lambda n: n * MOST_BYTES // 10)
    numbers = [4, 6, 1, 30, 9, 1]
    assert await asyncio.gather(*(batcher.submit(n) for n in numbers)) == [n * n for n in numbers]
    assert trips.made == [[4, 6], [1], [30], [9, 1]]


async def test_a_failure_is_told_to_all_of_its_batch_and_to_nobody_else() -> None:
    trips = Trips()
    trips.refuse = {1}
    batcher = Batcher(trips.send, max_items=2)
    done = await asyncio.gather(*(batcher.submit(n) for n in range(4)), return_exceptions=True)
    assert [type(each).__name__ for each in done] == ["ValueError", "ValueError", "int", "int"]
    assert await batcher.submit(5) == 25


async def test_a_submitter_that_gives_up_does_not_harm_the_others() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    waiting = [batcher.submit(n) for n in range(3)]
    waiting[1].cancel()
    assert [await waiting[0], await waiting[2]] == [0, 4]


async def test_a_submitter_that_gave_up_does_not_hide_a_failure_from_the_others() -> None:
    trips = Trips()
    trips.refuse = {2}
    batcher = Batcher(trips.send)
    waiting = [batcher.submit(n) for n in range(3)]
    waiting[0].cancel()
    for each in waiting[1:]:
        with pytest.raises(ValueError, match=r"no \[2\]"):
            await each
    assert await batcher.submit(5) == 25


async def test_idle_waits_for_everything_submitted_also_meanwhile() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    first = batcher.submit(1)
    first.add_done_callback(lambda _: later.append(batcher.submit(2)))
    later: list[asyncio.Future[int]] = []
    await batcher.idle()
    assert first.result() == 1
    assert [each.result() for each in later] == [4]
    await batcher.idle()


async def test_a_sender_that_is_cancelled_leaves_nobody_waiting() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_items=1)
    trips.open.clear()
    first, second = batcher.submit(1), batcher.submit(2)
    await until(lambda: trips.made)
    assert batcher._task is not None
    batcher._task.cancel()
    trips.open.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 4
