"""One name for one cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.fingerprint import VERSION, fingerprint, shape


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
        ("took 2 s", "took 20.75 s"),
        ("of 1,000 rows", "of 17 rows"),
        ("no answer from cus_9fKdk3J", "no answer from cus_Pq2LmZ"),
        ("at commit 3f9ac1d0", "at commit c0ffee12"),
        ("at deadbeefcafebabe", "at abcdefabcdefabcd"),
        ("no file /var/orders/a.pdf: gone", "no file /tmp/b/c.pdf: gone"),
        ("cannot read ~/orders/a.csv", "cannot read ~/b.csv"),
        ("cannot read data/ann/orders.csv", "cannot read data/bob/old/orders.csv"),
        (r"cannot read C:\orders\ann.csv", r"cannot read D:\bob.csv"),
        ("not before 2026-03-01T07:30:00+00:00", "not before 2026-11-25T14:20:39.123456+00:00"),
        ("not before 2026-03-01 07:30:00", "not before 2026-11-25 14:20:39.5"),
        ("since Wed, 25 Nov 2026 14:20:39 GMT", "since Mon, 2 Mar 2026 07:30:00 GMT"),
        ("since Nov 25 14:20:39 2026", "since Mar 2 07:30:00 2026"),
        ("GET https://api.example.org/a?x=y failed", "GET https://api.example.org/b failed"),
        ("no mailbox ann@example.org", "no mailbox bob.b@mail.example.com"),
        ("10.0.0.1:5432 refuses", "192.168.1.20:5432 refuses"),
        (r"no user 'o\'neil' here", "no user 'bob' here"),
        ("bad value b'\\xff\\x00'", "bad value b'abc'"),
        ("body is '" + "a" * 5000, "body is '" + "b" * 3000 + "'"),
        ("no table `ann`", "no table `bob`"),
    ],
)
def test_failures_that_differ_in_ids_numbers_and_quoted_values_share_a_fingerprint(one: str, other: str) -> None:
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("can't open the account", "can't close the account"),
        ("read and/or write", "read and write"),
        ("it may be late", "it can be late"),
        ("the user's name is empty, isn't it", "the user's mail is empty, isn't it"),
    ],
)
def test_what_only_looks_like_a_value_still_tells_causes_apart(one: str, other: str) -> None:
    assert of(one) != of(other)


@pytest.mark.parametrize("part", ["'", "\\'", "'\\", "a-", "/a", "a.", "a@", '"', "Nov 1 ", "a/", "1.", "aa:", "`"])
def test_a_message_that_is_made_to_be_slow_to_read_is_not(part: str) -> None:
    assert len(shape(part * 10_000_000)) <= 300


def test_the_rules_that_made_it_stand_in_its_name() -> None:
    assert of("closed").startswith(f"ValueError:{VERSION}-")


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
    assert len(name) == len(type) + 15
