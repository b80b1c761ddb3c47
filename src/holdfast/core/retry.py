"""How long to wait before the next attempt: exponential back-off with jitter.

The rule is "exponential back-off and jitter" as AWS describes it (Builders' Library, "Timeouts, retries, and backoff
with jitter"): without jitter, jobs that failed together come back together.
"""

from dataclasses import asdict, dataclass

LONGEST = 366 * 86400.0


@dataclass(frozen=True)
class RetryPolicy:
    """Delays between attempts, in seconds: `base * factor ** (attempt - 1)`, at most `cap`, give or take `jitter`.

    `jitter` is a share of the delay: 0.2 spreads a delay of 10 s evenly over 8 to 12 s.

    >>> RetryPolicy(base=2, factor=2, cap=60, jitter=0).delay(attempt=3, dice=0.5)
    8.0
    """

    base: float = 2.0
    factor: float = 2.0
    cap: float = 600.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not all(isinstance(value, int | float) for value in (self.base, self.factor, self.cap, self.jitter)):
            raise ValueError(f"retry policy {self!r}: base, factor, cap and jitter must be numbers")
        if not (
            0 <= self.base <= LONGEST
            and 1 <= self.factor <= 1000
            and 0 <= self.cap <= LONGEST
            and 0 <= self.jitter <= 1
        ):
            raise ValueError(
                f"retry policy {self!r} is out of range: base and cap from 0 s to a year, factor from 1 to 1000, "
                "jitter from 0 to 1"
            )

    def delay(self, attempt: int, dice: float) -> float:
        """Seconds until the next attempt, after failure number `attempt` (from 1). `dice` is random, 0 to 1."""
        exponent = min(attempt - 1, 64)
        exact = min(self.cap, self.base * self.factor**exponent)
        return exact * (1 - self.jitter + 2 * self.jitter * dice)

    def as_json(self) -> dict[str, float]:
        """The form that is kept on the job's row."""
        return asdict(self)


DEFAULT_RETRY = RetryPolicy()


def from_json(stored: dict[str, float] | None) -> RetryPolicy:
    """The policy kept on a row; the default where there is none, and for fields that are missing."""
    known = {key: stored[key] for key in ("base", "factor", "cap", "jitter") if key in stored} if stored else {}
    return RetryPolicy(**known)
