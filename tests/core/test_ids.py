"""Ids of version 7, as RFC 9562 lays them out (section 5.7)."""

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from holdfast.app import new_id
from holdfast.core.ids import uuid7

times = st.integers(0, 2**48 - 1)
randoms = st.integers(0, 2**74 - 1)


@given(times, randoms)
def test_version_variant_and_time_stand_where_the_rfc_puts_them(unix_ms: int, random_bits: int) -> None:
    made = uuid7(unix_ms, random_bits)
    assert made.version == 7
    assert made.variant == RFC_4122
    assert made.int >> 80 == unix_ms


@given(times, randoms)
def test_all_74_random_bits_are_kept(unix_ms: int, random_bits: int) -> None:
    made = uuid7(unix_ms, random_bits).int
    assert (made >> 64 & 0xFFF) << 62 | made & (2**62 - 1) == random_bits


@given(times, times, randoms, randoms)
def test_they_sort_by_the_time_they_were_made(one: int, other: int, a: int, b: int) -> None:
    first, second = sorted((one, other))
    if first < second:
        assert uuid7(first, a) < uuid7(second, b)
        assert str(uuid7(first, a)) < str(uuid7(second, b))


def test_the_rfc_s_own_example_comes_out() -> None:
    # Appendix A.6: 2022-02-22 14:22:22 GMT-05:00, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F without the variant.
    random_bits = 0xCC3 << 62 | 0x18C4DC0C0C07398F
    assert uuid7(0x017F22E279B0, random_bits) == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


def test_more_random_bits_than_needed_do_no_harm() -> None:
    assert uuid7(5, 2**74 | 3) == uuid7(5, 3)


def test_the_ids_of_a_program_are_all_different() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000
