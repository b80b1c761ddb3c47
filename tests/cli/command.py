"""The `holdfast` command as a process of its own, and waiting for what it does."""

import contextlib
import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from unittest import mock

from holdfast.cli.main import main

T = TypeVar("T")

PATIENCE = 90.0
COMMAND = (sys.executable, "-m", "holdfast")


@dataclass(frozen=True)
class Answer:
    """What a command that has ended said."""

    code: int
    out: str
    err: str


@dataclass
class Running:
    """A command that runs; `lines` grows as it prints."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def says(self, words: str) -> str:
        """Wait until a line holds these words; the line."""
        return eventually(lambda: next((line for line in list(self.lines) if words in line), None), self.explain)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(PATIENCE)

    def explain(self) -> str:
        return f"exit code {self.process.poll()}; it said:\n{self.text}"


def environment(**given: str) -> dict[str, str]:
    """This process's, without what would steer the command."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HOLDFAST_") and name not in ("DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    }
    return {**kept, **given}


def holdfast(*args: str, cwd: Path, **given: str) -> Answer:
    """Run a command to its end."""
    done = subprocess.run(
        [*COMMAND, *args],
        cwd=cwd,
        env=environment(**given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def holdfast_here(*args: str, cwd: Path, **given: str) -> Answer:
    """The same in this process, which is quicker by the start of an interpreter; for what opens no terminal."""
    out, err = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with (
        mock.patch.dict(os.environ, environment(**given), clear=True),
        mock.patch.object(sys, "argv", ["holdfast", *args]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int | None)
    return Answer(code or 0, out.getvalue(), err.getvalue())


def in_terminal(*args: str, cwd: Path, **given: str) -> str:
    """Run a command with a terminal for its output; what it wrote there."""
    return answer_in_terminal("", *args, cwd=cwd, **given)[0]


def answer_in_terminal(typed: str, *args: str, cwd: Path, **given: str) -> tuple[str, int]:
    """Run a command in a terminal and type something; what it wrote there, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *args],
        cwd=cwd,
        env=environment(TERM="xterm-256color", **given),
        stdin=theirs if typed else subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    heard = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says that nobody holds the other end any more
            break
        if not piece:
            break
        heard += piece
    os.close(ours)
    return heard.decode(), process.wait(PATIENCE)


@contextmanager
def running(*args: str, cwd: Path, command: Sequence[str] = COMMAND, **given: str) -> Iterator[Running]:
    """A command in the background, with both its streams read; ended at the end whatever happened."""
    process = subprocess.Popen(
        [*command, *args],
        cwd=cwd,
        env=environment(**given),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started = Running(process)
    reader = threading.Thread(target=_read, args=(started,), daemon=True)
    reader.start()
    try:
        yield started
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(10)


def _read(command: Running) -> None:
    assert command.process.stdout is not None
    with command.process.stdout as stream:
        for line in stream:
            command.lines.append(line)


def eventually(look: Callable[[], T | None], explain: Callable[[], str] = str, within: float = PATIENCE) -> T:
    """Look until there is something to see; what was seen."""
    end = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"did not come about within {within:g} s; {explain()}")
        time.sleep(0.05)
