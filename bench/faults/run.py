"""Runs the cells, some at once, writes docs/peers.json after each, and prints the table."""

import json
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import psycopg

from bench.faults.cells import FAULTS, WAIT, cell
from bench.faults.record import FILE
from bench.faults.systems import System, systems
from bench.harness import HERE, NotRun, machine

LOGS = HERE / ".peers" / "faults-logs"
#: A cell mostly waits.
AT_ONCE = int(os.environ.get("BENCH_FAULTS_AT_ONCE", "6"))
ROUNDS = int(os.environ.get("BENCH_FAULTS_ROUNDS", "1"))


def run(only: str = "") -> bool:
    """Do all cells whose title has this text; whether all of them could be run."""
    began, load = time.monotonic(), os.getloadavg()[0]
    wanted = [
        (system, fault)
        for fault in FAULTS
        for system in systems()
        if only in f"{fault} / {system.title}" and (system.supervised or not FAULTS[fault].only_supervised)
    ]
    book = Book(load)
    ran = True
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(ROUNDS):
            due = {pool.submit(cell, system, fault): (system, fault) for system, fault in wanted}
            for done in as_completed(due):
                system, fault = due[done]
                try:
                    book.add(system, fault, done.result())
                except (NotRun, OSError, psycopg.Error, subprocess.SubprocessError) as error:
                    print(f"not run: {fault} / {system.title}: {error}", flush=True)
                    ran = False
    print(f"\nfaults: {len(wanted) * ROUNDS} cells in {time.monotonic() - began:.0f} s")
    return ran


class Book:
    """docs/peers.json: rounds are added to those of the same system and fault that were measured in this run."""

    def __init__(self, load: float, file: Path = FILE) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._fresh: set[tuple[str, str]] = set()
        self._machine = machine(load)

    def add(self, system: System, fault: str, found: dict[str, Any]) -> None:
        log = found.pop("log")
        LOGS.mkdir(parents=True, exist_ok=True)
        (LOGS / f"{fault} - {system.title}.log".replace("/", "_")).write_text(log)
        with self._lock:
            known = json.loads(self._file.read_text()) if self._file.exists() else {"systems": {}, "cells": {}}
            known["systems"][system.title] = {
                "name": system.name, "version": system.version, "settings": system.settings, "said": system.said,
            }  # fmt: skip
            of_fault = known["cells"].setdefault(fault, {})
            if (fault, system.title) not in self._fresh:
                of_fault.pop(system.title, None)
                self._fresh.add((fault, system.title))
            of_fault.setdefault(system.title, []).append(found)
            known["machine"], known["wait"] = self._machine, WAIT
            self._file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        print(line(fault, system.title, found), flush=True)


def line(fault: str, title: str, found: dict[str, Any]) -> str:
    """One cell, for the terminal."""
    told = ", ".join(f"{key} {_shown(value)}" for key, value in found.items())
    return f"{fault:38} {title:28} {told}"


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
