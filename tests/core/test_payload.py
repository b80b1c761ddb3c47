"""What may be stored as JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.payload import MAX_BYTES, MAX_DEPTH, PayloadError, encode

plain_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | plain_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
)


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


@given(values)
def test_every_json_value_comes_back_as_it_was(value: Any) -> None:
    assert json.loads(encode(value, what="it")) == value


@given(values, st.text())
def test_text_is_stored_exactly_when_postgres_can_store_it(value: Any, text: str) -> None:
    storable = "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    for wrapped in ([value, text], {"k": {text: value}}, {text: text}):
        if storable:
            encode(wrapped, what="it")
        else:
            with pytest.raises(PayloadError, match=r"^it holds"):
                encode(wrapped, what="it")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_know_is_refused(number: float) -> None:
    with pytest.raises(PayloadError, match="result of f is not JSON"):
        encode({"a": [number]}, what="result of f")


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {(1, 2): 3}])
def test_what_json_does_not_know_is_refused(value: Any) -> None:
    with pytest.raises(PayloadError, match="it is not JSON"):
        encode(value, what="it")


def test_the_text_backslash_u0000_is_no_nul() -> None:
    assert json.loads(encode({"\\u0000": "a \\u0000 b"}, what="it")) == {"\\u0000": "a \\u0000 b"}


@pytest.mark.parametrize("place", [["\x00"], {"\x00": 1}, {"a": ("b", {"c": "d\x00e"})}])
def test_nul_is_found_wherever_it_stands(place: Any) -> None:
    with pytest.raises(PayloadError, match="holds the character NUL"):
        encode(place, what="it")


def test_size_is_counted_in_bytes_of_utf_8() -> None:
    assert encode("é" * 10, what="it", max_bytes=22) == '"éééééééééé"'
    with pytest.raises(PayloadError, match=r"it has 22 bytes as JSON, the limit is 21; store it elsewhere"):
        encode("é" * 10, what="it", max_bytes=21)


def test_the_default_limit_is_one_mebibyte() -> None:
    assert len(encode("x" * (MAX_BYTES - 2), what="it")) == MAX_BYTES == 1024 * 1024
    with pytest.raises(PayloadError, match="1,048,577 bytes"):
        encode("x" * (MAX_BYTES - 1), what="it")


def test_depth_has_a_limit_that_every_reader_can_follow() -> None:
    encode(nested(MAX_DEPTH), what="it")
    with pytest.raises(PayloadError, match=f"it is nested more than {MAX_DEPTH} levels deep"):
        encode(nested(MAX_DEPTH + 1), what="it")


@pytest.mark.parametrize("depth", [900, 5_000, 200_000])
def test_a_value_too_deep_for_the_interpreter_is_refused_like_any_other(depth: int) -> None:
    with pytest.raises(PayloadError, match="it is"):
        encode(nested(depth), what="it")
    with pytest.raises(PayloadError, match="it is"):
        encode([nested(depth), "\x00"], what="it")


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PayloadError, match="it is"):
        encode(loop, what="it")
