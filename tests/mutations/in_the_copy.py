"""A pytest plugin for runs on a copy: refuses to test anything but that copy, whatever is installed elsewhere."""

import os
from pathlib import Path

import pytest

import holdfast
import tests

COPY = "HOLDFAST_COPY_UNDER_TEST"


def pytest_configure() -> None:
    copy = Path(os.environ[COPY])
    for found in (Path(holdfast.__file__), Path(tests.__path__[0]), Path(__file__)):
        if not found.resolve().is_relative_to(copy.resolve()):
            raise pytest.UsageError(f"{found} would be tested, and not the copy {copy}")
