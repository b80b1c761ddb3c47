"""The examples in docstrings do what they say: on a real ledger, with a worker, `await` as in asyncio's own shell."""

import ast
import asyncio
import doctest
import importlib
import inspect
import logging
import pkgutil
import sys
import threading
import types
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import holdfast
import holdfast.testing
from tests.services.helpers import app_on, working
from tests.support import database_copy, open_session

#: These need optional packages or are programs.
NOT_HERE = ("holdfast.cli", "holdfast.web")
HOW_TO = Path(__file__).resolve().parent.parent / "docs" / "how-to.md"
FINDER = doctest.DocTestFinder(exclude_empty=True)


def modules() -> list[types.ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(holdfast.__path__, "holdfast.")]
    return [importlib.import_module(name) for name in ["holdfast", *names] if not name.startswith(NOT_HERE)]


def examples(module: types.ModuleType) -> list[doctest.DocTest]:
    return [found for found in FINDER.find(module) if found.examples]


WITH_EXAMPLES = [module for module in modules() if examples(module)]


class Shell:
    """An event loop in a thread of its own, which what is awaited runs in, beside a worker."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.hf = app_on(database)

        @self.hf.job(queue="mail")
        async def send_mail(to: str) -> str:
            return f"sent to {to}"

        self.names: dict[str, Any] = {
            **{name: getattr(holdfast, name) for name in holdfast.__all__},
            "hf": self.hf, "send_mail": send_mail, "logging": logging, "sys": sys, "UUID": UUID, "asyncio": asyncio,
            "datetime": datetime, "UTC": UTC, "printer_is_ready": lambda: True,
        }  # fmt: skip
        self._working = working(database, self.hf, queues=["mail", "default"], poll=0.05)
        self.run(self._working.__aenter__())

    def begin_anew(self) -> None:
        self.hf._kinds.clear()
        self.hf._periodics.clear()
        self.hf._register(self.names["send_mail"].kind)
        with open_session(self.database) as conn:
            conn.execute("TRUNCATE holdfast.jobs, holdfast.rate_limit_requests")

    def execute(self, code: types.CodeType, names: dict[str, Any]) -> None:
        """Stands in for `exec`; a line that awaits is a coroutine."""
        value = types.FunctionType(code, names)()
        if inspect.iscoroutine(value):
            self.run(value)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.run(self._working.__aexit__(None, None, None))
        self.run(self.hf.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def started(bare: str, template: str) -> Iterator[Shell]:
    with database_copy(bare, template) as database:
        made = Shell(database)
        yield made
        made.close()


@pytest.fixture
def shell(started: Shell, bare: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """One for all examples, each of which finds the kinds that it was made with, and no more."""
    monkeypatch.setattr(doctest, "exec", started.execute, raising=False)
    monkeypatch.setattr("holdfast.postgres.throwaway.local_server", lambda: bare)
    started.begin_anew()
    return started


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda module: module.__name__)
def test_the_examples_of_a_module_run(module: types.ModuleType, shell: Shell) -> None:
    found = examples(module)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    for test in found:
        test.globs = {**shell.names, **test.globs}
        test.globs.update({name: shell.names[name] for name in ("hf", "send_mail")})
        runner.run(test, compileflags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_the_how_to_page_runs_from_top_to_bottom(shell: Shell) -> None:
    """But for its first lines, which make the `hf` that stands for the test's."""
    text = HOW_TO.read_text().replace("\n>>> hf = Holdfast()\n", "\n").replace("\n```\n", "\n\n")
    names = {"hf": shell.hf}
    del shell.hf._kinds["send_mail"]
    test = doctest.DocTestParser().get_doctest(text, names, HOW_TO.name, str(HOW_TO), 0)
    runner = doctest.DocTestRunner()
    said: list[str] = []
    runner.run(test, compileflags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, out=said.append)
    assert runner.failures == 0, "".join(said)
    assert runner.tries >= 35


def test_an_example_that_is_wrong_is_found(shell: Shell) -> None:
    text = ">>> job = await send_mail.enqueue(to='ada')\n>>> await job.result(timeout=30)\n'sent to bob'\n"
    test = doctest.DocTestParser().get_doctest(text, dict(shell.names), "wrong", None, None)
    runner = doctest.DocTestRunner()
    runner.run(test, compileflags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, out=lambda said: None)
    assert (runner.failures, runner.tries) == (1, 2)


def has_example(value: Any) -> bool:
    return ">>>" in (inspect.getdoc(value) or "")


def public_methods(value: type) -> list[str]:
    return [
        name
        for name, member in vars(value).items()
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    ]


#: A name that programs only ever receive is shown where they receive it.
SHOWN_AT: dict[str, Any] = {"Decision": holdfast.Holdfast.rate_limit}


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    assert has_example(SHOWN_AT.get(name, getattr(holdfast, name))), f"add an example to the docstring of {name}"


@pytest.mark.parametrize("name", holdfast.testing.__all__)
def test_every_name_for_tests_has_an_example(name: str) -> None:
    assert has_example(getattr(holdfast.testing, name))


#: What only a worker, a supervisor or a handle calls.
NOT_FOR_PROGRAMS = {
    "kinds",
    "settings",
    "database",
    "use",
    "elsewhere",
    "served_queues",
    "served_kinds",
    "outcome",
    "outcome_sync",
}


@pytest.mark.parametrize("cls", [holdfast.Holdfast, holdfast.Job, holdfast.JobKind], ids=lambda cls: cls.__name__)
def test_every_method_that_programs_call_has_an_example(cls: type) -> None:
    wanted = [name for name in public_methods(cls) if name not in NOT_FOR_PROGRAMS]
    assert [name for name in wanted if not has_example(getattr(cls, name))] == []


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_module_says_what_it_is_for(module: types.ModuleType) -> None:
    assert module.__doc__
