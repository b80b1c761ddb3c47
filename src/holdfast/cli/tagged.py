"""Whether a queue that was given as the team's own is one for bells: it says so itself, by a tag."""

import asyncio

from holdfast.config import Settings
from holdfast.errors import QueueError
from holdfast.sqs.client import Sqs
from holdfast.sqs.connection import is_installed

#: Seconds that a start waits to learn it.
TAG_DEADLINE = 5.0


def with_tagged_bell(settings: Settings) -> Settings:
    """A queue given as the team's own is for bells only if it says so itself, by its tag holdfast=bell."""
    return asyncio.run(ask_for_tagged_bell(settings))


async def ask_for_tagged_bell(settings: Settings) -> Settings:
    """`with_tagged_bell` within an event loop."""
    url = settings.watched_queue_url
    if settings.sqs_queue_url is not None or url is None or not is_installed():
        return settings
    tags = await _tags(url)
    return settings.model_copy(update={"sqs_queue_url": url}) if tags.get("holdfast") == "bell" else settings


async def _tags(url: str) -> dict[str, str]:
    """Those of a queue; none where it cannot be asked: then nothing is sent to it."""
    sqs = Sqs(url, wait=0)
    try:
        async with asyncio.timeout(TAG_DEADLINE):
            return await sqs.tags(url)
    except (QueueError, TimeoutError):
        return {}
    finally:
        await sqs.close()
