"""A supervisor with real worker processes, in a test's process or (python -m) in one of its own."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from holdfast import Settings
from holdfast.app import new_id
from holdfast.cli.child import ChildPlan, command
from holdfast.events import Sinks
from holdfast.services.supervisor import ChildSpec, Supervisor, SupervisorSettings
from tests.services.helpers import Recorder

MODULE = "tasks_under_test"

#: Handlers that do to their process what handlers do.
APP = """
import asyncio, os, re, signal, subprocess, threading, time
from pathlib import Path

from holdfast import Context, Holdfast

hf = Holdfast()


@hf.job()
async def hold(ctx: Context, marker: str) -> int:
    while not Path(marker).exists():
        await asyncio.sleep(0.02)
    return ctx.lease


@hf.job()
async def parent(ctx: Context) -> int:
    if ctx.lease == 1:
        child = subprocess.Popen(["sleep", "600"])
        await ctx.progress(child.pid)
        await asyncio.Event().wait()
    return ctx.lease


@hf.job()
async def innocent(n: int) -> int:
    await asyncio.sleep(0.05)
    return n


@hf.job()
async def exits(code: int = 1) -> None:
    os._exit(code)


@hf.job()
async def breaks_the_worker() -> None:
    async def leave() -> None:
        raise SystemExit("from a task that nobody awaits")

    threading.Thread(target=time.sleep, args=(600,)).start()
    asyncio.get_running_loop().create_task(leave())
    await asyncio.sleep(600)


@hf.job()
def segfaults() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


@hf.job()
async def blocks_the_loop(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@hf.job()
async def holds_the_interpreter(ctx: Context) -> int:
    if ctx.lease == 1:
        re.match("(a+)+$", "a" * 64 + "b")
    return ctx.lease


@hf.job()
async def holds_the_interpreter_always() -> None:
    re.match("(a+)+$", "a" * 64 + "b")


@hf.job()
async def innocent_later(number: int) -> int:
    await asyncio.sleep(1)
    return number


@hf.job()
def ignores_its_cancellation(log: str) -> None:
    with open(log, "a", buffering=1) as file:
        while True:
            print(time.time(), file=file)
            time.sleep(0.005)
"""


def make_supervisor(
    dsn: str, recorder: Recorder, *, silence: float = 22.0, quarantine: bool = False, **given: Any
) -> Supervisor:
    usual = {"poll": 0.2, "beat_interval": 0.5, "sweep_interval": 0.5, "drain_timeout": 10.0, "slots": 5}
    settings = Settings.model_validate({**usual, **given})
    supervisor_id = new_id()

    def spec(name: str, *, alone: bool) -> ChildSpec:
        def start(worker_id: UUID, link: int) -> tuple[Sequence[str], Mapping[str, str]]:
            plan = ChildPlan(
                str(worker_id), str(supervisor_id), link, MODULE, dsn, settings.model_dump_json(), quarantine=alone
            )
            return command(plan)

        return ChildSpec(name, start, on_demand=alone)

    specs = [spec(f"worker-{n}", alone=False) for n in range(settings.processes)]
    kinds = tuple(re.findall(r"@hf.job\(\)\n(?:async )?def (\w+)", APP))
    return Supervisor(
        dsn,
        [*specs, spec("quarantine", alone=True)] if quarantine else specs,
        SupervisorSettings(drain_timeout=settings.drain_timeout, silence=silence, kinds=kinds),
        supervisor_id=supervisor_id,
        new_id=new_id,
        sinks=Sinks([recorder]),
    )


@dataclass
class Supervised:
    supervisor: Supervisor
    task: "asyncio.Task[None]"
    recorder: Recorder = field(default_factory=Recorder)

    async def stopped(self) -> None:
        self.supervisor.stop()
        await self.stopped_by_itself()

    async def stopped_by_itself(self) -> None:
        await asyncio.wait_for(self.task, 40)


@asynccontextmanager
async def supervising(dsn: str, **given: Any) -> AsyncIterator[Supervised]:
    recorder = Recorder()
    supervisor = make_supervisor(dsn, recorder, **given)
    running = Supervised(supervisor, asyncio.create_task(supervisor.run()), recorder)
    try:
        yield running
    finally:
        supervisor.stop()
        supervisor.stop()
        await asyncio.wait_for(asyncio.gather(running.task, return_exceptions=True), 30)


if __name__ == "__main__":
    asyncio.run(make_supervisor(sys.argv[1], Recorder(), processes=int(sys.argv[2])).run())
