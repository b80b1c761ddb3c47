"""A worker process, as its supervisor starts it: `python -m holdfast.cli.child`. Not for people."""

import asyncio
import contextlib
import functools
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from holdfast.app import Holdfast
from holdfast.cli.job_logging import log_to_stderr
from holdfast.cli.loading import load_app
from holdfast.config import Settings
from holdfast.core.counts import Counts
from holdfast.core.frames import frame
from holdfast.events import Sinks
from holdfast.instrument.counting import CountingSink
from holdfast.instrument.logs import LogSink
from holdfast.services.supervisor import LAST_WORD, PROGRESS
from holdfast.services.worker import Worker
from holdfast.telemetry import telemetry

VARIABLE = "HOLDFAST_CHILD"
PING_EVERY = 1.0
TELL_EVERY = 2.0


@dataclass(frozen=True)
class ChildPlan:
    """What a worker process is told by its supervisor. The settings travel in the environment, never in arguments."""

    worker_id: str
    supervisor_id: str
    link: int
    app: str
    dsn: str
    settings: str
    quarantine: bool = False


def command(plan: ChildPlan) -> tuple[Sequence[str], Mapping[str, str]]:
    """The arguments and the environment that start this worker process."""
    return ("-m", "holdfast.cli.child"), {**os.environ, VARIABLE: json.dumps(asdict(plan))}


def main() -> None:
    plan = ChildPlan(**json.loads(os.environ.pop(VARIABLE)))
    link = socket.socket(fileno=plan.link)
    code = 1
    try:
        code = _work(plan, link)
    except BaseException:
        # Whatever it is, this process must end now: its handlers' threads would keep it, and nobody would beat for it.
        with contextlib.suppress(Exception):
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # Handlers in threads that ignore their cancellation must not keep this process alive.
    _leave(link, code)


def _leave(link: socket.socket, code: int) -> None:
    """End, and tell the supervisor that the code is ours: a handler can end this process with any code as well."""
    with contextlib.suppress(OSError):
        link.send(bytes((LAST_WORD, code)))
    os._exit(code)


def _work(plan: ChildPlan, link: socket.socket) -> int:
    settings = Settings.model_validate_json(plan.settings)
    log_to_stderr(settings.log_level.upper())
    sys.path.insert(0, os.getcwd())
    app = load_app(plan.app)
    _collect_rarely()
    return asyncio.run(_run(plan, settings, app, link))


def _collect_rarely() -> None:
    """Let the garbage collector alone with what lives as long as this process, and with each few hundred runs.

    By default it looks at all young objects each 700: with many small jobs, a quarter of the processor's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _run(plan: ChildPlan, settings: Settings, app: Holdfast, link: socket.socket) -> int:
    counting = CountingSink()
    leave: Callable[[int], None] = functools.partial(_leave, link)
    changes = {"slots": 1, "sweep": False, "quarantine": True, "idle_exit": 10.0} if plan.quarantine else {}
    worker = Worker(
        plan.dsn,
        app.served_kinds(settings),
        settings.worker_settings(queues=app.served_queues(settings), **changes),
        worker_id=UUID(plan.worker_id),
        supervisor_id=UUID(plan.supervisor_id),
        app=plan.app,
        periodics=app.periodics,
        sinks=Sinks([LogSink(), counting]),
        progressed=Progress(link).made,
        telemetry=telemetry(settings, "holdfast-worker"),
        exit_process=leave,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.drain)
    link.setblocking(False)
    loop.add_reader(link, _supervisor_said, link, worker)
    threading.Thread(target=_ping, args=(link,), name="holdfast-ping", daemon=True).start()
    telling = Telling(link, counting.counts)
    told = asyncio.create_task(telling.run())
    code = await worker.run()
    told.cancel()
    telling.tell()
    if settings.otel:
        from holdfast.instrument.otel import shut_down

        await asyncio.to_thread(shut_down)
    return code


class Telling:
    """Tells the supervisor every few seconds what this process has counted."""

    def __init__(self, link: socket.socket, counts: Counts) -> None:
        self._link = link
        self._counts = counts
        self._told = ""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY)
            self.tell()

    def tell(self) -> None:
        """Now. Where it does not go through whole, the supervisor drops it, and hears the next."""
        text = self._counts.as_json()
        if text != self._told:
            self._told = text
            with contextlib.suppress(OSError):
                self._link.send(frame(text))


class Progress:
    """Tells the supervisor, at most each second, that the claim loop turns."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._told_at = float("-inf")

    def made(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= PING_EVERY:
            self._told_at = now
            with contextlib.suppress(OSError):
                self._link.send(PROGRESS)


def _supervisor_said(link: socket.socket, worker: Worker) -> None:
    """The supervisor never writes: to read anything is to read its end."""
    asyncio.get_running_loop().remove_reader(link)
    worker.drain()


def _ping(link: socket.socket) -> None:
    """From a thread, so that a busy event loop is not taken for a dead process; a held GIL is."""
    while True:
        with contextlib.suppress(OSError):
            link.send(b".")
        time.sleep(PING_EVERY)


if __name__ == "__main__":
    main()
