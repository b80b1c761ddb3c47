"""One timer for the deadlines of all runs."""

import asyncio
from functools import partial

from holdfast.services.deadlines import Deadlines
from tests.services.helpers import until


async def test_they_pass_in_the_order_in_which_they_are_due() -> None:
    deadlines = Deadlines()
    passed: list[str] = []
    for name, seconds in (("late", 0.06), ("soon", 0.02), ("soon too", 0.02), ("between", 0.04)):
        deadlines.add(seconds, partial(passed.append, name))
    await until(lambda: len(passed) == 4)
    assert passed == ["soon", "soon too", "between", "late"]


async def test_none_passes_before_its_time() -> None:
    loop, deadlines = asyncio.get_running_loop(), Deadlines()
    found: asyncio.Future[float] = loop.create_future()
    began = loop.time()
    deadlines.add(0.05, lambda: found.set_result(loop.time()))
    early = deadlines.add(0.01, lambda: None)
    deadlines.drop(early)
    assert await found - began >= 0.05


async def test_one_that_was_dropped_is_not_called_and_holds_up_no_other() -> None:
    deadlines = Deadlines()
    passed: list[str] = []
    first = deadlines.add(0.01, lambda: passed.append("first"))
    deadlines.add(0.01, lambda: passed.append("second"))
    deadlines.add(0.02, lambda: passed.append("third"))
    deadlines.drop(first)
    deadlines.drop(first)
    await until(lambda: len(passed) == 2)
    assert passed == ["second", "third"]
    assert deadlines._by_seconds == {}
    assert deadlines._timer is None


async def test_what_passes_may_add_another() -> None:
    deadlines = Deadlines()
    passed: list[str] = []

    def first() -> None:
        passed.append("first")
        deadlines.add(0.01, lambda: passed.append("second"))

    deadlines.add(0.01, first)
    await until(lambda: passed == ["first", "second"])


async def test_after_the_end_none_is_called() -> None:
    deadlines = Deadlines()
    passed: list[str] = []
    deadlines.add(0.01, lambda: passed.append("too late"))
    deadlines.close()
    deadlines.add(0.02, lambda: passed.append("new"))
    await until(lambda: passed)
    assert passed == ["new"]
