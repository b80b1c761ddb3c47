"""Ids that sort by the time they were made, UUID version 7 (RFC 9562, section 5.7), and ids as people write them."""

from collections.abc import Iterable
from uuid import UUID

from holdfast.errors import InvalidArguments


def uuid7(unix_ms: int, random_bits: int) -> UUID:
    """A version 7 UUID from a time in milliseconds and at least 74 random bits (the lowest 74 are used).

    >>> uuid7(1_700_000_000_000, 0)
    UUID('018bcfe5-6800-7000-8000-000000000000')
    """
    random_a = (random_bits >> 62) & 0xFFF
    random_b = random_bits & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=(unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b)


def job_id(given: UUID | str) -> UUID:
    """A job's id, given as a UUID or as its text; `InvalidArguments` where it is neither.

    >>> job_id("018bcfe5-6800-7000-8000-000000000000")
    UUID('018bcfe5-6800-7000-8000-000000000000')
    """
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, TypeError, AttributeError):
        raise InvalidArguments(f"a job's id is a UUID or its text, and this is {given!r:.60}") from None


def job_ids(given: Iterable[UUID | str]) -> list[UUID]:
    """The ids of several jobs; a single one is refused: its text would be taken for a list of letters."""
    if isinstance(given, UUID | str):
        raise InvalidArguments(f"this takes a list of jobs' ids: [{given!r:.60}]")
    return [job_id(each) for each in given]
