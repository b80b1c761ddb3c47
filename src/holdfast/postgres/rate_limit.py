"""Calls of the rate limiter's functions.

A flight's arrays are written as Postgres writes arrays: with hundreds of identities a flight, that is several times
quicker than to convert each element. They hold only numbers and hashes; names go as parameters of their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from holdfast.core.ratelimit import Limit, Policy
from holdfast.postgres.calls import Call
from holdfast.postgres.statements import statement

ALL = UUID(int=0)


#: What Postgres says of one identity: its place in the question (from 1), numbers, a verdict, a rule. The numbers are
#: units granted, at which stamp, and for each limit what is left, microseconds until the same cost fits, and until all
#: is free. Where the verdict is allow or block: granted, stamp, microseconds until that ends. A plain tuple: there is
#: one for each decision.
Answer = tuple[int, list[int | None], str | None, list[list[Any]] | None]


def _answer(*row: Any) -> Answer:
    return cast(Answer, row)


def limits_of(rule: list[list[Any]]) -> tuple[Limit, ...]:
    """The limits of a rule that is in force instead of those asked for."""
    return tuple(_limit(*each) for each in zip(*rule, strict=True))


def _limit(most: int, span: int, kind: str, burst: int) -> Limit:
    return Limit(most, span / 1e6, "fixed" if kind == "fixed" else "gcra" if kind == "gcra" else "log", burst)


def _definition(limits: Sequence[Limit]) -> tuple[list[int], list[int], list[str], list[int]]:
    """The arrays mosts, spans, kinds and bursts. A gcra without a burst may take its whole limit at once."""
    return (
        [limit.most for limit in limits],
        [round(limit.window * 1e6) for limit in limits],
        [limit.algorithm for limit in limits],
        [limit.capacity if limit.algorithm == "gcra" else 0 for limit in limits],
    )


def _array(values: Iterable[Any]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


_HITS = (
    "SELECT place, answer, verdict, rule FROM holdfast.rate_limit_hits(%s::text[], %s::integer[], %s::integer[],"
    " %s::integer[], %s::bigint[], %s::text[], %s::integer[], %s::uuid[], %s::integer[], %s::integer[], %s::integer[],"
    " %s::integer[], false)"
)


def rate_limit_hits(
    policies: Sequence[Policy], keys: Sequence[str], costs: Sequence[int], wanted: Sequence[int], debts: Sequence[int]
) -> Call[Answer]:
    """Decide for many identities, each of which stands in it once; the answers in no order.

    Of each: its policy, its key as a hash, units of a request, how many requests, units that were admitted elsewhere.
    """
    numbers: dict[int, int] = {}
    which = [numbers.setdefault(id(policy), len(numbers) + 1) for policy in policies]
    known = {id(policy): policy for policy in policies}
    firsts, lasts, limits = [], [], list[Limit]()
    for number in numbers:
        firsts.append(len(limits) + 1)
        limits += known[number].limits
        lasts.append(len(limits))
    return Call(
        "rate_limit_hits",
        _HITS,
        (
            [known[number].name for number in numbers],
            firsts,
            lasts,
            *_definition(limits),
            _array(keys),
            _array(which) if len(numbers) > 1 else None,
            _array(costs) if set(costs) != {1} else None,
            _array(wanted) if set(wanted) != {1} else None,
            _array(debts) if any(debts) else None,
        ),
        _answer,
    )


def rate_limit_peek(policy: Policy, key: str, cost: int) -> Call[Answer]:
    """How one identity stands; changes nothing."""
    return Call(
        "rate_limit_peek",
        "SELECT place, answer, verdict, rule FROM holdfast.rate_limit_peek(%s, %s::uuid, %s::integer[], %s::bigint[],"
        " %s::text[], %s::integer[], %s)",
        (policy.name, key, *_definition(policy.limits), cost),
        _answer,
    )


def rate_limit_refund(policy: Policy, key: str, stamp: int, cost: int) -> Call[bool]:
    """Take back what was granted at that stamp; whether there was anything."""
    return Call(
        "rate_limit_refund",
        "SELECT holdfast.rate_limit_refund(%s, %s::uuid, %s, %s, %s::integer[], %s::bigint[], %s::text[],"
        " %s::integer[])",
        (policy.name, key, stamp, cost, *_definition(policy.limits)),
        bool,
    )


def rate_limit_reset(key: UUID, policy: str | None) -> Call[int]:
    """Forget an identity's counts under one policy or all; how many."""
    return Call("rate_limit_reset", "SELECT holdfast.rate_limit_reset(%s, %s)", (key, policy), int)


def rate_limit_set_rule(
    policy: str,
    key: UUID,
    verdict: str | None,
    seconds: float | None,
    *,
    note: str | None,
    limits: Sequence[Limit] = (),
) -> Call[bool]:
    """Allow, block or limit an identity; verdict None takes the rule away. Whether anything changed."""
    return Call(
        "rate_limit_set_rule",
        "SELECT holdfast.rate_limit_set_rule(%s, %s, %s, %s::interval, %s, %s::integer[], %s::bigint[], %s::text[],"
        " %s::integer[])",
        (
            policy,
            key,
            verdict,
            None if seconds is None else timedelta(seconds=seconds),
            note,
            *(_definition(limits) if limits else (None, None, None, None)),
        ),
        bool,
    )


@dataclass(frozen=True, slots=True)
class Link:
    """What a process must know: the secret of the hashes, the generation, and how many processes live."""

    secret: bytes
    generation: int
    instances: int
    is_full: bool


def rate_limit_beat(
    instance: UUID,
    decided: Mapping[tuple[str, str, str], int],
    refused: Mapping[tuple[str, str], int],
    max_identities: int,
) -> Call[Link]:
    """A process's sign of life, with what it decided by (policy, source, outcome), and refused by (policy, key)."""
    return Call(
        "rate_limit_beat",
        "SELECT secret, generation, instances, is_full FROM holdfast.rate_limit_beat(%s, %s::text[], %s::text[],"
        " %s::text[], %s::bigint[], %s::text[], %s::uuid[], %s::bigint[], %s)",
        (
            instance,
            [policy for policy, _, _ in decided],
            [source for _, source, _ in decided],
            [outcome for _, _, outcome in decided],
            list(decided.values()),
            [policy for policy, _ in refused],
            _array([key for _, key in refused]),
            list(refused.values()),
            max_identities,
        ),
        Link,
    )


def rate_limit_leave(instance: UUID) -> Call[Any]:
    """A process ends."""
    return Call("rate_limit_leave", "SELECT holdfast.rate_limit_leave(%s)", (instance,), lambda _: None)


def rate_limit_key(identity: str) -> Call[UUID]:
    """What an identity is called in the tables."""
    return Call("rate_limit_key", "SELECT holdfast.rate_limit_key(%s)", (identity,), lambda key: key)


def rate_limit_prune(from_page: int, pages: int) -> Call[tuple[int, int]]:
    """Forget what has passed in these pages of the table; how many that were, and how many pages it has."""
    return Call(
        "rate_limit_prune",
        "SELECT holdfast.rate_limit_prune(%s, %s), pg_relation_size('holdfast.rate_limit_requests') / 8192",
        (from_page, pages),
        lambda gone, size: (gone, size),
    )


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """What was decided under a policy, over all processes; `shadowed` would have been refused."""

    policy: str
    admitted: int
    refused: int
    shadowed: int
    alone: int
    last_at: datetime


def list_rate_limits(limit: int) -> Call[PolicyRow]:
    """The policies in use, the last used first; `alone` were decided by processes without Postgres."""
    return Call("list_rate_limits", statement("list_rate_limits"), {"limit": limit}, PolicyRow)


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """One identity under one policy: what its log holds now, and how often it was refused."""

    policy: str
    key: UUID
    admitted: int
    last_at: datetime | None
    refused: int
    free_at: datetime


def top_rate_limits(limit: int, policy: str | None) -> Call[IdentityRow]:
    """Who is refused most."""
    return Call("top_rate_limits", statement("top_rate_limits"), {"limit": limit, "policy": policy}, IdentityRow)


def show_rate_limits(key: UUID) -> Call[IdentityRow]:
    """One identity under all policies."""
    return Call("show_rate_limits", statement("show_rate_limits"), {"key": key}, IdentityRow)


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule. `policy` empty: every policy; `key` of zeros: every identity."""

    policy: str
    key: UUID
    verdict: str
    limits: list[str]
    until: datetime | None
    note: str | None


def rate_limit_rules(limit: int, key: UUID | None = None) -> Call[RuleRow]:
    """The rules, or those of one identity."""
    return Call("rate_limit_rules", statement("rate_limit_rules"), {"limit": limit, "key": key}, RuleRow)


@dataclass(frozen=True, slots=True)
class TableHealth:
    """How the table of the counts is: rows, bytes, the share of updates that were HOT, the oldest transaction's age."""

    identities: int
    table_bytes: int
    index_bytes: int
    hot_ratio: float | None
    dead_rows: int
    oldest_transaction: timedelta | None
    oldest_pid: int | None
    instances: int
    is_full: bool


def rate_limit_table() -> Call[TableHealth]:
    """For the doctor and for `holdfast limits list`."""
    return Call("rate_limit_table", statement("rate_limit_table"), {}, TableHealth)
