"""A dead man's switch: an address that is asked while all is well, and that somebody else watches."""

import asyncio

import httpx
from pydantic import SecretStr

DEADLINE = 10.0


async def ping_deadman(url: SecretStr, *, deadline: float = DEADLINE) -> str | None:
    """Ask the address, which is a secret; why it was of no use, None if it was."""
    try:
        async with asyncio.timeout(deadline), httpx.AsyncClient(timeout=deadline) as client:
            answer = await client.get(url.get_secret_value())
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"HOLDFAST_DEADMAN_URL does not answer: {type(error).__name__}"
    return None if answer.is_success else f"HOLDFAST_DEADMAN_URL answers {answer.status_code}"
