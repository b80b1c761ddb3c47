"""Ids that sort by the time they were made: UUID version 7 (RFC 9562, section 5.7)."""

from uuid import UUID


def uuid7(unix_ms: int, random_bits: int) -> UUID:
    """A version 7 UUID from a time in milliseconds and at least 74 random bits (the lowest 74 are used).

    >>> uuid7(1_700_000_000_000, 0)
    UUID('018bcfe5-6800-7000-8000-000000000000')
    """
    random_a = (random_bits >> 62) & 0xFFF
    random_b = random_bits & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=(unix_ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b)
