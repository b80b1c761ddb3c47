"""The demo's one kind of job; apart, since the worker processes need no more than this of the demo."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from holdfast.app import Holdfast

#: Its ledger is the one of the settings that the command was given.
hf = Holdfast()


@hf.job("holdfast.demo.digest", queue="demo", timeout=60.0, max_attempts=10)
async def digest(path: str, hold: float) -> dict[str, Any]:
    """SHA-256 and word count of a file; holds its slot for a while, as a job that waits for something would."""
    found = await asyncio.to_thread(read_digest, Path(path))
    await asyncio.sleep(hold)
    return found


def read_digest(path: Path) -> dict[str, Any]:
    """What a run of the handler stores for a file."""
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "words": len(data.split())}
