"""Runs groups of benchmarks: us and the peers interleaved in one run, five rounds, and a verdict for each row.

A group is a module of this package with a function `rows()`, a context manager that yields its rows: it starts what
they need and ends it. A row has sides, each a function that measures once and returns a number; in each round every
side is measured once, in turn forwards and backwards. What is judged is the ratio of our side to the best of the
others, or, where there are none, our number itself: by its median, never by a single round.
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PEERS = HERE / ".peers"
GROUPS = ("jobs", "tables", "enqueue", "latency", "sqs", "letters", "rescue", "ratelimit", "health", "dashboard")
#: Those that judge by themselves and write a table of their own; they run when they are named.
APART = ("faults",)
ROUNDS = 5
#: Seconds within which a measurement must end, so that no peer can hold up the others.
PATIENCE = 60.0


class NotRun(Exception):
    """A row cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Row:
    """One line of the table. `target` is what the median must reach, upwards or (`least=False`) downwards."""

    name: str
    unit: str
    us: Callable[[], float]
    peers: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    target: float = 1.0
    least: bool = True
    note: str = ""
    more: Callable[[], str] | None = None


@dataclass(frozen=True)
class Result:
    name: str
    verdict: str
    value: str
    target: str
    details: dict[str, Any]


def measure(row: Row, rounds: int = ROUNDS) -> Result:
    """Measure all sides in each round, and judge the medians."""
    sides = {"us": row.us, **row.peers}
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            seen[name].append(sides[name]())
    choose = max if row.least else min
    best = choose(row.peers, key=lambda name: statistics.median(seen[name]), default=None)
    judged = seen["us"] if best is None else [us / peer for us, peer in zip(seen["us"], seen[best], strict=True)]
    middle = statistics.median(judged)
    met = middle >= row.target if row.least else middle <= row.target
    unit = row.unit if best is None else "times"
    value = f"{shown(middle)} ({shown(min(judged))} to {shown(max(judged))}) {unit}"
    if best is not None:
        value += f"; us {shown(statistics.median(seen['us']))}"
        value += "".join(f", {name} {shown(statistics.median(seen[name]))}" for name in row.peers) + f" {row.unit}"
    details = {"rounds": rounds, "judged": judged, "sides": seen, "unit": row.unit, "note": row.note}
    if row.more is not None:
        details["more"] = row.more()
    return Result(
        row.name,
        "met" if met else "missed",
        value,
        f"{'at least' if row.least else 'at most'} {shown(row.target)}",
        details,
    )


def shown(number: float) -> str:
    """Three figures, as people read them."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def machine(load: float) -> dict[str, Any]:
    """What the numbers were made on; `load` as it was before the first of them."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(load, 2),
    }


def merge(group: str, results: Sequence[Result], settings: Mapping[str, str], load: float) -> None:
    """Put these rows in the place of earlier ones of the same name."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows = known.setdefault(group, {"rows": {}})
    rows["settings"] = dict(settings)
    for result in results:
        rows["rows"][result.name] = {
            "machine": machine(load),
            "verdict": result.verdict,
            "value": result.value,
            "target": result.target,
            **result.details,
        }
    RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


class Worker:
    """A program in a process of its own that measures when asked: one line of JSON in, one out."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parent), **environment},
        )

    def begin(self, **what: Any) -> None:
        """Let it measure; `result` waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def result(self, within: float = PATIENCE) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], within)[0]:
            self._process.kill()
            raise NotRun(f"{self._process.args!r} did not answer within {within:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise NotRun(f"{self._process.args!r} ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, **what: Any) -> dict[str, Any]:
        self.begin(**what)
        return self.result()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """A factory of workers; all end at the end."""
    made: list[Worker] = []

    def factory(*command: str, **environment: str) -> Worker:
        made.append(Worker(command, **environment))
        return made[-1]

    try:
        yield factory
    finally:
        for worker in made:
            worker.close()


def python_peers(*requirements: str, name: str = "python") -> str:
    """The interpreter of an environment with these packages, made when it is missing."""
    folder = PEERS / name
    python = folder / "bin" / "python"
    stamp = folder / "made-of"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {', '.join(requirements)}…", file=sys.stderr)
        run(sys.executable, "-m", "venv", str(folder))
        run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
        stamp.write_text(wanted)
    return str(python)


def node_peers(*requirements: str, name: str = "node") -> Path:
    """A folder whose node_modules hold these packages."""
    folder = PEERS / f"node-{name}"
    stamp = folder / "made-of"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {', '.join(requirements)}…", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        run("npm", "install", "--silent", "--prefix", str(folder), *requirements)
        stamp.write_text(wanted)
    return folder


def run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300)
    except FileNotFoundError:
        raise NotRun(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise NotRun(f"{' '.join(command)} failed: {error.stderr.decode()[-300:]}") from None


def run_group(name: str, only: str) -> bool:
    """Measure one group; whether every row met its target."""
    if name in APART:
        return bool(importlib.import_module(f"bench.{name}.run").run(only))
    group = importlib.import_module(f"bench.{name}")
    began, load, results = time.monotonic(), os.getloadavg()[0], list[Result]()
    with group.rows() as (rows, settings):
        print(f"\n{name}: " + "; ".join(f"{key} {value}" for key, value in settings.items()))
        print(f"load {load:.2f} on {os.cpu_count()} cores; {ROUNDS} rounds, median (least to most)\n")
        for row in rows:
            if only not in row.name:
                continue
            try:
                result = measure(row)
            except NotRun as reason:
                result = Result(row.name, "not run", str(reason), shown(row.target), {})
            results.append(result)
            print(f"{result.verdict:8} {result.name}\n         {result.value}, target {result.target}", flush=True)
            if result.details.get("more"):
                print(f"         {result.details['more']}", flush=True)
    merge(name, results, settings, load)
    met = sum(each.verdict == "met" for each in results)
    print(f"\n{name}: {time.monotonic() - began:.0f} s; {met} of {len(results)} met")
    return all(each.verdict == "met" for each in results)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, *APART, []], default=[])
    parser.add_argument("--only", default="", help="only rows whose name has this text")
    given = parser.parse_args()
    met = [run_group(name, given.only) for name in given.groups or GROUPS]
    return 0 if all(met) else 1
