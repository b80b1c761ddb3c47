"""Assertions about jobs, whichever way they were enqueued."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.handles import JobKind
from holdfast.postgres.reads import JobRow


class Expectations:
    """What `Inline` and `Sandbox` have in common."""

    def enqueued(self, kind: JobKind[..., Any] | None = None) -> list[JobRow]:
        raise NotImplementedError

    def assert_enqueued(self, kind: JobKind[..., Any], **arguments: Any) -> JobRow:
        """A job of this kind with these arguments (others may be anything) was enqueued; the newest of them.

        Options of the kind must be those of the job: assert_enqueued(send_mail.options(queue="slow"), to="ada").

        Raises `AssertionError` with what was enqueued instead.
        """
        found = self.enqueued(kind)
        for row in reversed(found):
            if _holds(row, kind, arguments):
                return row
        wanted = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise AssertionError(f"no {kind.name}({wanted}){_options_in_words(kind)} was enqueued; {_instead(found)}")

    def assert_not_enqueued(self, kind: JobKind[..., Any] | None = None, **arguments: Any) -> None:
        """No such job was enqueued; without a kind: none at all."""
        found = [row for row in self.enqueued(kind) if kind is None or _holds(row, kind, arguments)]
        if found:
            raise AssertionError(f"{len(found)} of them enqueued: {_instead(found)}")


def _holds(row: JobRow, kind: JobKind[..., Any], arguments: Mapping[str, Any]) -> bool:
    stored = kind.kind.decode_arguments(row.args)
    if not all(name in stored and stored[name] == value for name, value in arguments.items()):
        return False
    return all(_has(row, name, value) for name, value in _options_of(kind).items())


def _has(row: JobRow, name: str, value: Any) -> bool:
    if name == "delay":
        return abs((row.run_at - row.created_at).total_seconds() - float(value)) < 0.001
    return bool(getattr(row, name) == value)


def _options_of(kind: JobKind[..., Any]) -> dict[str, Any]:
    given = dataclasses.asdict(kind._options)
    return {name: value for name, value in given.items() if value is not None}


def _options_in_words(kind: JobKind[..., Any]) -> str:
    words = ", ".join(f"{name}={value!r}" for name, value in _options_of(kind).items())
    return f" with {words}" if words else ""


def _instead(found: Sequence[JobRow], most: int = 10) -> str:
    if not found:
        return "nothing of this kind was"
    lines = [
        f"{row.kind}({', '.join(f'{name}={value!r}' for name, value in row.args.items())})" for row in found[:most]
    ]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"what was: {'; '.join(lines)}{more}"
