"""Run a handler in a process of its own: it can be killed, and can take nobody with it.

The child is in its worker's process group, so whoever kills the group kills it. It reads commands from its standard
input, one a line: the call, `alive` at each accepted beat, `stop`; the end of that input means that its worker is dead,
and ends it. A handler that holds the interpreter's lock cannot read, so a deadline in C (faulthandler) ends the process
when its worker's lease may no longer be trusted; the call and each `alive` say until when that is, on the clock that
both share. It answers on a descriptor of its own, since a handler may print.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.core.payload import PayloadError
from holdfast.services.pulse import steady_now

#: A result may have 1 MiB as JSON; lines of the child are longer by their frame and by escapes.
LINE_LIMIT = 8 * 1024 * 1024
#: What the deadline in C ends a process with.
FENCED_CODE = 1


class IsolatedFailure(Exception):
    """The handler raised in its own process: what it raised, as data."""

    def __init__(self, type_name: str, message: str, trace: str) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.trace = trace


class ProcessCrashed(Exception):
    """The handler's own process ended without an answer."""


class ProcessFenced(Exception):
    """The handler's own process ended itself, since its worker could not tell it in time that it may go on."""


@dataclass(frozen=True)
class Answer:
    """How the handler ended: `kind` is result, failure, snooze or invalid; `is_unsure` as of its `Context`."""

    kind: str
    body: Any
    is_unsure: bool = False


@dataclass(frozen=True)
class Isolation:
    """What it takes to run this program's handlers in processes of their own.

    `app` is where the child finds the handler (module:attribute); `trusted_until` says how long it may run by what its
    worker knows now (`steady_now`).
    """

    app: str
    trusted_until: Callable[[], float]


class IsolatedCall:
    """One handler in one process."""

    def __init__(self, isolation: Isolation, report: Callable[[str | None], Awaitable[None]]) -> None:
        self._isolation = isolation
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._told_until = float("inf")
        self._told_too_late = False

    async def run(self, call: Mapping[str, Any]) -> Answer:
        """Start the process, give it the call, and wait for its answer.

        Raises `ProcessCrashed`, `ProcessFenced`; when cancelled, kills the process and waits until it is gone.
        """
        read_end, write_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "holdfast.cli.isolated", str(write_end),
                stdin=asyncio.subprocess.PIPE, pass_fds=(write_end,), limit=LINE_LIMIT,
            )  # fmt: skip
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        try:
            self._say({"call": {**call, "app": self._isolation.app, "until": self._trusted_until()}})
            return await self._listen(read_end)
        finally:
            await self._end()

    def alive(self) -> None:
        """The worker's beat was accepted: the child may go on."""
        self._say({"alive": self._trusted_until()})

    def _trusted_until(self) -> float:
        self._told_too_late = self._told_too_late or steady_now() >= self._told_until
        self._told_until = self._isolation.trusted_until()
        return self._told_until

    def stop(self) -> None:
        """Ask the handler to end (`ctx.cancelled`)."""
        self._say({"stop": True})

    def _say(self, message: Mapping[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, descriptor: int) -> Answer:
        reader = asyncio.StreamReader(limit=LINE_LIMIT)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "answer" in message:
                    return Answer(message["answer"], message["body"], message["unsure"])
                await self._pass_on(message)
        finally:
            transport.close()
        assert self._process is not None
        code = await self._process.wait()
        if code == FENCED_CODE and (self._told_too_late or steady_now() >= self._told_until):
            raise ProcessFenced
        raise ProcessCrashed(_ending(code))

    async def _pass_on(self, message: Mapping[str, Any]) -> None:
        problem = None
        try:
            await self._report(message["report"])
        except (Exception, PayloadError) as error:
            problem = f"{type(error).__name__}: {error}"
        self._say({"reported": problem})

    async def _end(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await asyncio.shield(self._process.wait())


def _ending(code: int) -> str:
    if code >= 0:
        return f"the handler's process ended with code {code} before it answered"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the handler's process was ended by {name} before it answered"
