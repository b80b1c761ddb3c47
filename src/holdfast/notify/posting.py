"""One post over HTTPS, and what became of it: what all channels that post have in common.

The address may be a secret, and the texts of the client's errors may hold it: none of them gets out.
"""

import asyncio
import math
from collections.abc import Callable, Mapping

import httpx

from holdfast.notify.channel import Again, Broken, Delivered, Outcome

#: Bytes of an answer that are read; seconds that a receiver may ask for.
MOST_ANSWER = 1024
LONGEST_RETRY_AFTER = 3600.0

#: What an answer means: its status, the beginning of its body, its Retry-After.
Classify = Callable[[int, str, str | None], Outcome]


class Poster:
    """Posts to one receiver, `whom` for people. `deadline` in seconds, for a whole post."""

    def __init__(self, whom: str, classify: Classify, *, deadline: float) -> None:
        self._whom = whom
        self._classify = classify
        self._deadline = deadline
        self._http = httpx.AsyncClient(timeout=deadline, follow_redirects=False)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Outcome:
        """Post JSON once, and say what the receiver made of it."""
        try:
            async with asyncio.timeout(self._deadline):  # the client's own holds for each part of an answer
                return await self._post(url, body, headers or {})
        except (TimeoutError, httpx.TimeoutException):
            return Again(f"{self._whom} did not answer within {self._deadline:g} s")
        except httpx.HTTPError as error:
            return Again(f"{self._whom} did not answer: {type(error).__name__}")
        except (httpx.InvalidURL, ValueError) as error:
            return Broken(f"the address of {self._whom} cannot be used: {type(error).__name__}")

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        headers = {"Content-Type": "application/json", **headers}
        async with self._http.stream("POST", url, content=body, headers=headers) as answer:
            read = bytearray()
            async for piece in answer.aiter_bytes(MOST_ANSWER):
                read += piece
                if len(read) >= MOST_ANSWER:
                    break
            return self._classify(
                answer.status_code, read.decode("utf-8", "replace"), answer.headers.get("retry-after")
            )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


def classify_plainly(whom: str) -> Classify:
    """By the status alone: 2xx is taken, 408, 429 and 5xx may be tried again, all else is refused."""

    def classify(status: int, body: str, retry_after: str | None) -> Outcome:
        if 200 <= status < 300:
            return Delivered()
        if status in (408, 429) or status >= 500:
            return Again(f"{whom} answers {status}", seconds(retry_after) or (1.0 if status == 429 else None))
        return Broken(f"{whom} refuses: {status} {word(body)}".strip())

    return classify


def word(body: str) -> str:
    """The beginning of an answer, harmless for a log."""
    return "".join(char for char in body.strip()[:60] if char.isalnum() or char in "_- ")


def seconds(text: str | None) -> float | None:
    """Retry-After as it comes: whole or fractional seconds."""
    try:
        found = float(text) if text else None
    except ValueError:
        return None
    return min(found, LONGEST_RETRY_AFTER) if found is not None and math.isfinite(found) and found > 0 else None
