"""How times and foreign text look to people."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.cli.output import clean, first_line, relative, span

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (7_199, "1 h"), (86_400 * 3, "3 d")]
)
def test_a_duration_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(-12, "12 s ago"), (180, "in 3 min"), (0.5, "just now")])
def test_a_time_is_told_from_now(seconds: float, words: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == words


def test_control_characters_reach_no_terminal() -> None:
    assert clean("a\x1b[2J\x07\x9b\tb\n") == "a\ufffd[2J\ufffd\ufffd\tb\n"


def test_a_first_line_is_cut() -> None:
    assert first_line("  one\ntwo") == "one"
    assert first_line("x" * 500, most=10) == "x" * 9 + "…"
