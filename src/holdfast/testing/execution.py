"""Calling handlers in a test's own process."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from holdfast.core.kind import Kind
from holdfast.services.context import Context, use_context

T = TypeVar("T")


async def call(kind: Kind, context: Context, arguments: Mapping[str, Any]) -> Any:
    """In a task or a thread of its own, so that `current_context` is that of this run alone."""
    first = (context,) if kind.wants_context else ()
    if not kind.is_async:
        return await asyncio.to_thread(_with_context, context, kind.handler, first, arguments)

    async def run() -> Any:
        use_context(context)
        return await kind.handler(*first, **arguments)

    return await asyncio.create_task(run())


def _with_context(
    context: Context, handler: Callable[..., Any], first: tuple[Context, ...], arguments: Mapping[str, Any]
) -> Any:
    use_context(context)
    return handler(*first, **arguments)


def blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end here; in a thread of its own where an event loop runs in this one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="holdfast-testing") as thread:
        return thread.submit(asyncio.run, work).result()
