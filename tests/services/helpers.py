"""What tests of running services need: waiting on a condition, events kept, a worker in this process, a bad network."""

import asyncio
import contextlib
import inspect
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from psycopg import conninfo

from holdfast import Holdfast, Settings
from holdfast.app import new_id
from holdfast.core.lease import LeaseTimings
from holdfast.events import Event, Sinks
from holdfast.instrument.otel import Telemetry
from holdfast.services.worker import Worker, WorkerSettings

E = TypeVar("E")


async def until(condition: Callable[[], Any], what: str = "", *, seconds: float = 60.0) -> Any:
    """Wait until `condition` (plain or async) is true; what it returned. Bounded, so that a test fails."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"not within {seconds:g} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(0.02)


class Recorder:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def app_on(dsn: str) -> Holdfast:
    return Holdfast(settings=Settings.model_validate({"database_url": dsn}))


# A worker in this process


@dataclass
class Running:
    """A worker that runs as a task of this test."""

    worker: Worker
    id: UUID
    recorder: Recorder
    task: "asyncio.Task[int]"

    async def drained(self) -> int:
        self.worker.drain()
        return await asyncio.wait_for(self.task, 20)


def worker_settings(app: Holdfast, **changes: Any) -> WorkerSettings:
    """Quick beats, but leases that nobody can lose by accident on a busy machine."""
    usual: dict[str, Any] = {
        "queues": sorted({kind.queue for kind in app.kinds.values()}) or ["default"],
        "timings": LeaseTimings(beat_interval=0.2, lost_after=25.0),
        "poll": 0.2,
        "drain_timeout": 5.0,
        "sweep": False,
    }
    return WorkerSettings(**{**usual, **changes})


@asynccontextmanager
async def working(
    dsn: str, app: Holdfast, *, telemetry: Telemetry | None = None, **changes: Any
) -> AsyncIterator[Running]:
    """A worker of the app's kinds, drained at the end."""
    recorder, worker_id = Recorder(), new_id()
    worker = Worker(
        dsn,
        app.kinds,
        worker_settings(app, **changes),
        worker_id=worker_id,
        periodics=app.periodics,
        sinks=Sinks([recorder]),
        rng=random.Random(7),
        telemetry=telemetry,
    )
    running = Running(worker, worker_id, recorder, asyncio.create_task(worker.run()))
    await until(lambda: recorder.events or running.task.done(), "the worker has started")
    try:
        yield running
    finally:
        if not running.task.done():
            with contextlib.suppress(Exception):
                await running.drained()
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)


# A network between a program and Postgres


@dataclass
class _KeptBack:
    """One answer that is under way for as long as a test wants."""

    request: bytes
    after: int
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def is_this(self, data: bytes) -> bool:
        if self.request not in data:
            return False
        self.after -= 1
        return self.after == -1


class Relay:
    """Passes connections on to Postgres, and does what networks do: loses an answer, stands still, is down.

    A connection is known by its application name, so that a worker's beats can stop while its claims go on.
    """

    def __init__(self, dsn: str) -> None:
        parts = conninfo.conninfo_to_dict(dsn)
        self._socket = f".s.PGSQL.{parts.get('port') or 5432}"
        self._behind = f"{parts['host']}/{self._socket}"
        self._folder = Path(tempfile.mkdtemp(prefix="relay-", dir="/tmp"))
        self.dsn = conninfo.make_conninfo(dsn, host=str(self._folder))
        self.asked: list[tuple[str, bytes]] = []
        self._flows: dict[asyncio.Task[None], str] = {}
        self._held: dict[str, asyncio.Event] = {}
        self._lose: list[tuple[bytes, asyncio.Event]] = []
        self._refuse: list[tuple[bytes, asyncio.Event]] = []
        self._keep_back: list[_KeptBack] = []
        #: An answer of more bytes than this never arrives; its connection ends.
        self.most: int | None = None
        self._server: asyncio.Server | None = None

    async def up(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._folder / self._socket)

    async def down(self) -> None:
        """Nobody can connect, and who is connected is cut off."""
        if self._server is not None:
            self._server.close()
            (self._folder / self._socket).unlink(missing_ok=True)
        await self.cut("")

    async def cut(self, name: str) -> None:
        """Cut the connections whose name begins so."""
        tasks = [task for task, known in self._flows.items() if known.startswith(name)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.down()
        shutil.rmtree(self._folder, ignore_errors=True)

    def hold(self, name: str) -> None:
        """Answers to connections whose name begins so do not arrive until `let_go`; requests do."""
        self._held[name] = asyncio.Event()

    def let_go(self, name: str) -> None:
        self._held.pop(name).set()

    def keep_back(self, request: bytes, *, after: int = 0) -> "_KeptBack":
        """The answer to a request with this text, when `after` others have passed, does not arrive until `let_go`."""
        kept = _KeptBack(request, after)
        self._keep_back.append(kept)
        return kept

    def lose_answer(self, request: bytes) -> asyncio.Event:
        """The next request with this text is carried out; instead of its answer the connection ends."""
        lost = asyncio.Event()
        self._lose.append((request, lost))
        return lost

    def lose_request(self, request: bytes) -> asyncio.Event:
        """The next request with this text never arrives; the connection ends."""
        lost = asyncio.Event()
        self._refuse.append((request, lost))
        return lost

    def count(self, text: bytes) -> int:
        return sum(text in request for _, request in self.asked)

    def connected(self, name: str) -> int:
        """How many connections of that name there have been."""
        return sum(known.startswith(name) and request.startswith(b"user") for known, request in self.asked)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._flows[task] = ""
        behind: asyncio.StreamWriter | None = None
        try:
            size = await reader.readexactly(4)
            start = await reader.readexactly(int.from_bytes(size, "big") - 4)
            words = start[4:].split(b"\0")
            name = words[words.index(b"application_name") + 1].decode() if b"application_name" in words else ""
            self._flows[task] = name
            self.asked.append((name, start[4:]))
            answers, behind = await asyncio.open_unix_connection(self._behind)
            behind.write(size + start)
            await self._both_ways(name, reader, behind, answers, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            del self._flows[task]
            for each in (writer, behind):
                if each is not None:
                    each.close()

    async def _both_ways(
        self,
        name: str,
        requests: asyncio.StreamReader,
        behind: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        client: asyncio.StreamWriter,
    ) -> None:
        losing: list[asyncio.Event] = []
        kept_back: list[_KeptBack] = []
        answered = 0

        async def there() -> None:
            nonlocal answered
            while data := await requests.read(1 << 20):
                self.asked.append((name, data))
                for rule in [rule for rule in self._refuse if rule[0] in data]:
                    self._refuse.remove(rule)
                    rule[1].set()
                    return
                for rule in [rule for rule in self._lose if rule[0] in data]:
                    self._lose.remove(rule)
                    losing.append(rule[1])
                kept_back.extend(each for each in self._keep_back if each.is_this(data))
                answered = 0
                behind.write(data)
                await behind.drain()

        async def back() -> None:
            nonlocal answered
            while data := await answers.read(1 << 20):
                answered += len(data)
                if self.most is not None and answered > self.most:
                    return
                for held in [event for start, event in self._held.items() if name.startswith(start)]:
                    await held.wait()
                for kept in kept_back:
                    kept.reached.set()
                    await kept.let_go.wait()
                if losing:
                    if data.endswith(b"Z\0\0\0\x05I"):
                        losing[0].set()
                        return
                    continue
                client.write(data)
                await client.drain()

        tasks = {asyncio.create_task(there()), asyncio.create_task(back())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def relay_to(dsn: str) -> AsyncIterator[Relay]:
    relay = Relay(dsn)
    await relay.up()
    try:
        yield relay
    finally:
        await relay.close()


def at_most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many of these (begin, end) overlap at the worst moment."""
    edges = sorted((at, step) for begin, end in spans for at, step in ((begin, 1), (end, -1)))
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
