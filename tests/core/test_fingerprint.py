"""One name for one cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.fingerprint import fingerprint


def of(message: str, *, kind: str = "mail", type: str = "ValueError", frames: list[str] | None = None) -> str:
    return fingerprint(kind, type, message, ["app.py:main", "app.py:send"] if frames is None else frames)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 is closed", "order 4711 is closed"),
        ("no user 'ann'", "no user 'bob'"),
        ('no user "ann"', 'no user "bob"'),
        ("at 0x7f00aa", "at 0x1b2c"),
        ("job 0198c1f0-0000-7000-8000-000000000001", "job 2b1ff1a0-9cbb-4a01-b4a8-1b2a3c4d5e6f"),
        ("took 1.5 s", "took 20.75 s"),
        ("first line\nwith details", "first line\nwith others"),
    ],
)
def test_failures_that_differ_in_ids_numbers_and_quoted_values_share_a_fingerprint(one: str, other: str) -> None:
    assert of(one) == of(other)


def test_another_kind_type_message_or_place_is_another_cause() -> None:
    names = {
        of("closed"),
        of("closed", kind="report"),
        of("closed", type="KeyError"),
        of("open"),
        of("closed", frames=["app.py:other"]),
        of("closed", frames=[]),
    }
    assert len(names) == 6


def test_only_the_innermost_frame_counts() -> None:
    assert of("closed", frames=["a.py:one", "b.py:it"]) == of("closed", frames=["c.py:two", "b.py:it"])


def test_it_begins_with_the_type_so_that_people_can_read_it() -> None:
    assert of("closed").startswith("ValueError:")


texts = st.text(st.characters(exclude_categories=[]))  # lone surrogates too: file names have them


@given(texts, texts, texts, st.lists(texts))
def test_any_failure_has_a_short_stable_one(kind: str, type: str, message: str, frames: list[str]) -> None:
    name = fingerprint(kind, type, message, frames)
    assert name == fingerprint(kind, type, message, frames)
    assert len(name) == len(type) + 13
