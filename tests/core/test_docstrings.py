"""The examples in docstrings do what they say."""

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import holdfast

#: These need optional packages or are programs.
NOT_HERE = ("holdfast.cli", "holdfast.web")


def modules() -> list[ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(holdfast.__path__, "holdfast.")]
    return [importlib.import_module(name) for name in ["holdfast", *names] if not name.startswith(NOT_HERE)]


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_the_examples_of_a_module_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_there_are_examples_to_run() -> None:
    assert sum(doctest.testmod(module).attempted for module in modules()) >= 10


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_module_says_what_it_is_for(module: ModuleType) -> None:
    assert module.__doc__
