"""A loop in the background: whether it turns is told from when it did last."""

import asyncio

from holdfast.services.background import Background


async def test_a_loop_that_turns_has_no_problem_and_one_that_was_not_started_neither() -> None:
    loop, begun = Background("keys"), asyncio.Event()

    async def run() -> None:
        begun.set()
        await asyncio.Event().wait()

    assert (loop.problem, loop.is_running) == (None, False)
    loop.start(run())
    await begun.wait()
    assert (loop.problem, loop.is_running) == (None, True)
    await loop.stop()
    assert (loop.problem, loop.is_running) == (None, False)


async def test_a_loop_that_has_ended_is_told() -> None:
    loop = Background("keys")

    async def run() -> None:
        raise ValueError

    loop.start(run())
    assert loop._task is not None
    await asyncio.wait({loop._task})
    assert loop.problem == "the loop of keys has ended"
    await loop.stop()


async def test_a_loop_that_stands_still_is_told_though_its_task_lives() -> None:
    loop = Background("keys", within=0.0)
    loop.start(asyncio.sleep(60.0))
    await asyncio.sleep(0)
    assert loop.problem == "the loop of keys has not turned for 0 s"
    await loop.stop()
