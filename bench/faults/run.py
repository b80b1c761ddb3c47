"""Runs the cells, some at once, writes docs/peers.json after each, and prints the table."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import psycopg

from bench.faults.cells import FAULTS, WAIT, cell
from bench.faults.fleet import STOP
from bench.faults.record import FILE
from bench.faults.systems import System, systems
from bench.harness import HERE, NotRun, machine

LOGS = HERE / ".peers" / "faults-logs"
#: A cell mostly waits.
AT_ONCE = int(os.environ.get("BENCH_FAULTS_AT_ONCE", "6"))
ROUNDS = int(os.environ.get("BENCH_FAULTS_ROUNDS", "1"))


def run(only: str = "") -> bool:
    """Do all cells whose title has this text; whether all of them could be run.

    It goes on where an earlier run stopped: without docs/peers.json it begins anew.
    """
    began, load = time.monotonic(), os.getloadavg()[0]
    wanted = [
        (system, fault)
        for fault in FAULTS
        for system in systems()
        if only in f"{fault} / {system.title}" and (system.supervised or not FAULTS[fault].only_supervised)
    ]
    book = Book(load)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        ran = [_round(pool, book, wanted, number) for number in range(ROUNDS)]
    finally:
        STOP.set()
        pool.shutdown(cancel_futures=True)
    print(f"\nfaults: {time.monotonic() - began:.0f} s")
    return all(ran)


def _round(pool: ThreadPoolExecutor, book: "Book", wanted: Sequence[tuple[System, str]], number: int) -> bool:
    due = {
        pool.submit(cell, system, fault): (system, fault)
        for system, fault in wanted
        if book.rounds(system, fault) <= number
    }
    ran = True
    for done in as_completed(due):
        system, fault = due[done]
        try:
            book.add(system, fault, done.result())
        except (NotRun, OSError, psycopg.Error, subprocess.SubprocessError) as error:
            print(f"not run: {fault} / {system.title}: {error}", flush=True)
            ran = False
    return ran


class Book:
    """docs/peers.json: a list of rounds for each system in each fault."""

    def __init__(self, load: float, file: Path = FILE) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._machine = machine(load)
        self._known = json.loads(file.read_text()) if file.exists() else {"systems": {}, "cells": {}}

    def rounds(self, system: System, fault: str) -> int:
        """How many are there already."""
        return len(self._known["cells"].get(fault, {}).get(system.title, ()))

    def add(self, system: System, fault: str, found: dict[str, Any]) -> None:
        log = found.pop("log")
        LOGS.mkdir(parents=True, exist_ok=True)
        (LOGS / f"{fault} - {system.title}.log".replace("/", "_")).write_text(log)
        with self._lock:
            known = self._known
            known["systems"][system.title] = {
                "name": system.name, "version": system.version, "settings": system.settings, "said": system.said,
            }  # fmt: skip
            known["cells"].setdefault(fault, {}).setdefault(system.title, []).append(found)
            known["machine"], known["wait"] = self._machine, WAIT
            self._file.write_text(json.dumps(tidy(known), indent=1) + "\n")
        print(line(fault, system.title, found), flush=True)


def tidy(known: dict[str, Any]) -> dict[str, Any]:
    """In an order that does not hang on who was done first."""
    cells = {fault: dict(sorted(known["cells"][fault].items())) for fault in FAULTS if fault in known["cells"]}
    return {
        "machine": known["machine"], "wait": known["wait"], "systems": dict(sorted(known["systems"].items())),
        "cells": cells,
    }  # fmt: skip


def line(fault: str, title: str, found: dict[str, Any]) -> str:
    """One cell, for the terminal."""
    told = ", ".join(f"{key} {_shown(value)}" for key, value in found.items())
    return f"{fault:38} {title:28} {told}"


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
