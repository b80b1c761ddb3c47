"""How much travels together: a statement has a deadline, so what it carries must have a limit in bytes as well."""

from collections.abc import Iterable

#: Bytes of JSON in one statement. A slow link carries that within the deadline of a call.
MOST_BYTES = 4 * 1024 * 1024


def first_batch(weights: Iterable[int], *, most: int, heaviest: int = MOST_BYTES) -> int:
    """How many of the first items make a batch: at most `most`, together at most `heaviest`, but always one.

    >>> first_batch([3, 3, 3, 3], most=10, heaviest=8)
    2
    >>> first_batch([9], most=10, heaviest=8)
    1
    """
    count = total = 0
    for weight in weights:
        total += weight
        if count == most or (count and total > heaviest):
            break
        count += 1
    return count
