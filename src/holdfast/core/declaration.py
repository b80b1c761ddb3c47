"""What a program may declare: each value of its type and within its range, else `ConfigurationError` with the value.

Checked when a module is imported, since what is wrong there would be refused at the first job, far from its cause.
"""

import inspect
from collections.abc import Callable
from typing import Any

from holdfast.core.payload import is_storable
from holdfast.errors import ConfigurationError

MOST = 1_000_000
LONGEST = 366 * 86400


def refuse_bare(option: object, *, decorator: str) -> None:
    """`@hf.job` without parentheses hands the function over as the first option."""
    if callable(option):
        name = getattr(option, "__name__", repr(option))
        raise ConfigurationError(f"{name}: write @hf.{decorator}(...) with parentheses, also where nothing is in them")


def kind_name(name: object, handler: object) -> str:
    """The name that a kind is given, or that of its function."""
    if not callable(handler) or isinstance(handler, type):
        raise ConfigurationError(f"a job is made of a function, and this is {handler!r:.80}")
    found = name or getattr(handler, "__name__", None)
    if found is None:
        raise ConfigurationError(f"{handler!r:.80} has no name of its own; give it one: @hf.job('name')")
    return storable_name("kind", found)


def storable_name(what: str, name: object, *, of: str = "") -> str:
    """A name of 1 to 200 characters that Postgres can store."""
    if not isinstance(name, str):
        raise ConfigurationError(f"{of}the name of a {what} is {name!r:.50}; it must be text")
    if not 1 <= len(name) <= 200 or not is_storable(name):
        raise ConfigurationError(
            f"{of}the name of a {what} must have 1 to 200 characters, no NUL and no lone surrogates, "
            f"this has {len(name)}: {name[:50]!r}"
        )
    return name


def refuse_generator(name: str, handler: Callable[..., Any]) -> None:
    """Calling a generator function runs none of it."""
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise ConfigurationError(f"{name} is a generator (it says yield), which would never run; return what it yields")


def whole(name: str, value: object, least: int, most: int = MOST, *, note: str = "") -> None:
    """A whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigurationError(f"{name} is {value!r:.50}; it must be a whole number from {least} to {most:,}{note}")


def seconds(name: str, value: object) -> None:
    """A duration above 0, of a year at most."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < LONGEST:
        raise ConfigurationError(
            f"{name} is {value!r:.50}; it must be a number of seconds above 0, of a year at most, or None"
        )
