"""docs/tutorial.md, followed to the letter: its files are written, its commands run, what they print is compared."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Running, environment, eventually, holdfast, running
from tests.support import Session, row

TUTORIAL = (Path(__file__).resolve().parent.parent / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(
    r"(?:<!-- (?P<what>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)

#: The one thing that is not to the letter: the run after the kill does not take its time.
A_SECOND, A_SECOND_AT_FIRST = "asyncio.sleep(1)", "asyncio.sleep(1 if ctx.lease == 1 else 0.05)"


@dataclass
class Step:
    """A block of the page: what is to be done with it, and what must be said then."""

    what: str
    body: str
    expected: str | None = None


def steps() -> Iterator[Step]:
    last: Step | None = None
    for found in BLOCK.finditer(TUTORIAL):
        if found["language"] == "" and last is not None:
            last.expected = found["body"]
            continue
        if last is not None:
            yield last
        last = Step(found["what"] or "shown only", found["body"])
    assert last is not None
    yield last


def as_pattern(expected: str) -> str:
    """… is anything on a line, and spaces are as many as there are."""
    words = [
        r"[^\n]*?".join(re.escape(piece) for piece in line.split("…"))
        for line in (" ".join(line.split()) for line in expected.strip().splitlines())
    ]
    return r"\n".join(words)


def assert_said(said: str, expected: str) -> None:
    plain = "\n".join(" ".join(line.split()) for line in said.strip().splitlines())
    assert re.search(as_pattern(expected) + r"$", plain, re.MULTILINE), f"said:\n{plain}\n\nexpected:\n{expected}"


class Reader:
    """Somebody with two terminals who does what the page says."""

    def __init__(self, folder: Path, database: str, conn: Session, stack: ExitStack) -> None:
        self._folder, self._database, self._conn, self._stack = folder, database, conn, stack
        self._worker: Running | None = None
        self._started: ExitStack = stack.enter_context(ExitStack())

    def follow(self, step: Step) -> None:
        match step.what.split(":", 1):
            case ["file", name]:
                (self._folder / name.strip()).write_text(step.body.replace(A_SECOND, A_SECOND_AT_FIRST))
            case ["add to", name]:
                with (self._folder / name.strip()).open("a") as file:
                    file.write("\n\n" + step.body)
            case ["start"]:
                self._start(step)
            case ["restart"]:
                self._started.close()
                self._start(step)
            case ["run, after 3 pages"]:
                eventually(lambda: (self._job()["progress"] or 0) >= 3)
                self._run(step)
            case ["run, after the end"]:
                eventually(lambda: self._job()["status"] == "succeeded")
                self._run(step)
            case ["run"]:
                self._run(step)
            case ["shown only"]:
                assert step.body.startswith("pip install")
            case _:
                raise AssertionError(f"nothing is known of {step.what!r}")

    def _start(self, step: Step) -> None:
        _, *words = step.body.split()
        worker = running(*words, cwd=self._folder, DATABASE_URL=self._database)
        self._worker = self._started.enter_context(worker)
        self._worker.says("worker_started")
        if step.expected is not None:
            assert_said(self._worker.text.partition("\n20")[0], step.expected)

    def _run(self, step: Step) -> None:
        commands = step.body
        if "PID" in commands:
            commands = commands.replace("PID", str(self._listed("workers")["pid"]))
        if " ID" in commands:
            commands = commands.replace(" ID", f" {self._listed('jobs')['id']}")
        done = subprocess.run(
            ["sh", "-ec", commands],
            cwd=self._folder,
            env=environment(DATABASE_URL=self._database, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        if step.expected is not None:
            assert_said(done.stdout, step.expected)

    def _listed(self, what: str) -> dict[str, object]:
        listed = holdfast(what, "list", "--json", cwd=self._folder, DATABASE_URL=self._database)
        found: dict[str, object] = json.loads(listed.out)[what][0]
        return found

    def _job(self) -> dict[str, Any]:
        return row(self._conn, "SELECT * FROM holdfast.jobs WHERE kind = 'report'")


@pytest.fixture
def reader(tmp_path: Path, database: str, conn: Session) -> Iterator[Reader]:
    with ExitStack() as stack:
        yield Reader(tmp_path, database, conn, stack)


def test_the_tutorial_can_be_followed_to_the_letter(reader: Reader, conn: Session) -> None:
    followed = list(steps())
    for step in followed:
        reader.follow(step)
    assert len(followed) >= 12
    assert A_SECOND in TUTORIAL
    retried = "SELECT status FROM holdfast.jobs WHERE kind = 'fragile'"
    eventually(lambda: row(conn, retried)["status"] == "succeeded")


def test_a_wrong_line_on_the_page_would_be_found() -> None:
    assert_said("a  7\nb", "a …\nb")
    with pytest.raises(AssertionError):
        assert_said("a  7\nb", "a …\nc")
