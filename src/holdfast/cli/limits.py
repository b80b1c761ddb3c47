"""`holdfast limits`: what is limited, who is refused, and the lists and rules that are in force."""

import re
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from holdfast.cli.options import AsJson, DatabaseUrl, DataDir, open_ledger
from holdfast.cli.output import clean, print_json, relative, show, table
from holdfast.core.ratelimit import Policy
from holdfast.errors import ConfigurationError
from holdfast.postgres import rate_limit, reads
from holdfast.postgres.ledger import SyncLedger

limits = typer.Typer(help="Look at the rate limits; reset, block and allow identities.", no_args_is_help=True)

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)")
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
LONGEST = 10 * 366 * 86400.0
SOON = "within a second in all processes"


def span(text: str) -> float:
    """A length of time as it is typed: 90, 15m, 2h, 1d."""
    found = _SPAN.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST:
        raise typer.BadParameter(f"{text!r} is no length of time; it looks like 90 (seconds), 15m, 2h or 1d")
    return seconds


def digest(text: str) -> UUID:
    """A hash as `holdfast limits top` shows it."""
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a hash; see: holdfast limits top") from None


Key = Annotated[
    str | None,
    typer.Argument(metavar="KEY", show_default=False, help="The identity as programs name it: user:42, 192.0.2.7."),
]
Hash = Annotated[
    UUID | None,
    typer.Option("--hash", parser=digest, metavar="HASH", help="Instead of KEY: the hash that `top` shows."),
]
OfPolicy = Annotated[str | None, typer.Option("--policy", help="Only under the policy of this name.")]
For = Annotated[
    float | None,
    typer.Option("--for", parser=span, metavar="TIME", help="For so long: 90 (seconds), 15m, 2h; else for ever."),
]
Note = Annotated[str | None, typer.Option(help="Why; shown by list.")]


@limits.command("list")
def list_limits(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The policies in use with what was decided, the rules in force, and how the table is."""
    with open_ledger(database_url, data_dir) as ledger:
        policies = ledger.call(rate_limit.list_rate_limits(limit))
        rules = ledger.call(rate_limit.rate_limit_rules(limit))
        health = ledger.one(rate_limit.rate_limit_table())
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(policies=policies, rules=rules, table=health)
        return
    if policies:
        page = table("POLICY", "ADMITTED", "REFUSED", "SHADOWED", "WITHOUT POSTGRES", "LAST")
        for row in policies:
            counts = (f"{number:,}" for number in (row.admitted, row.refused, row.shadowed, row.alone))
            page.add_row(clean(row.policy), *counts, relative(row.last_at, now))
        show(page)
    else:
        show("nothing was limited yet; see docs/rate-limits.md")
    if rules:
        show("", _rules(rules, now))
    show("", _health(health))


@limits.command("top")
def top(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 10,
    policy: OfPolicy = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Who is refused most. The ledger knows identities by keyed hashes only: `show KEY` tells whose is whose."""
    with open_ledger(database_url, data_dir) as ledger:
        rows = ledger.call(rate_limit.top_rate_limits(limit, policy))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(identities=rows)
    elif rows:
        show(_identities(rows, now))
    else:
        show("nobody is refused")


@limits.command("show")
def show_limit(
    key: Key = None,
    *,
    hash_: Hash = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """One identity: what it was admitted and refused under each policy, and its rules."""
    with open_ledger(database_url, data_dir) as ledger:
        identity = _identity(ledger, key, hash_)
        rows = ledger.call(rate_limit.show_rate_limits(identity))
        rules = ledger.call(rate_limit.rate_limit_rules(100, identity))
        now = ledger.one(reads.ping()).clock
    if as_json:
        print_json(key=key, hash=identity, identities=rows, rules=rules)
        return
    show(f"{clean(key) if key else 'this identity'} is {identity} in the ledger")
    show(_identities(rows, now) if rows else "nothing of it is in any window")
    if rules:
        show("", _rules(rules, now))


@limits.command("reset")
def reset(
    key: Key = None,
    *,
    hash_: Hash = None,
    policy: OfPolicy = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Forget what an identity was admitted, so that its limits are free again."""
    with open_ledger(database_url, data_dir) as ledger:
        gone = ledger.one(rate_limit.rate_limit_reset(_identity(ledger, key, hash_), policy))
    show(f"forgotten: {gone} {'count' if gone == 1 else 'counts'}, {SOON}")


@limits.command("block")
def block(
    key: Key = None,
    *,
    hash_: Hash = None,
    policy: OfPolicy = None,
    lasts: For = None,
    note: Note = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Refuse an identity from now on."""
    with open_ledger(database_url, data_dir) as ledger:
        show(_set(ledger, "block", _identity(ledger, key, hash_), policy=policy, lasts=lasts, note=note))


@limits.command("allow")
def allow(
    key: Key = None,
    *,
    hash_: Hash = None,
    policy: OfPolicy = None,
    lasts: For = None,
    note: Note = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Admit an identity always, whatever it was admitted already."""
    with open_ledger(database_url, data_dir) as ledger:
        show(_set(ledger, "allow", _identity(ledger, key, hash_), policy=policy, lasts=lasts, note=note))


@limits.command("override")
def override(
    policy: Annotated[str, typer.Argument(metavar="POLICY", show_default=False, help="The policy's name.")],
    wanted: Annotated[
        str, typer.Argument(metavar="LIMIT", show_default=False, help="500/minute, or several: 5/s,500/h.")
    ],
    key: Key = None,
    *,
    hash_: Hash = None,
    lasts: For = None,
    note: Note = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Give one identity other limits under a policy, or, without KEY, every identity: a tier without a deploy."""
    parsed = Policy.parse(wanted).limits
    with open_ledger(database_url, data_dir) as ledger:
        identity = rate_limit.ALL if key is None and hash_ is None else _identity(ledger, key, hash_)
        ledger.one(rate_limit.rate_limit_set_rule(policy, identity, "limit", lasts, note=note, limits=parsed))
    show(f"{policy} is {', '.join(each.text for each in parsed)} now, {SOON}")


@limits.command("clear")
def clear(
    key: Key = None,
    *,
    hash_: Hash = None,
    policy: OfPolicy = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Instead of KEY: the override of all.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Take back what block, allow or override set for this KEY and policy."""
    with open_ledger(database_url, data_dir) as ledger:
        identity = rate_limit.ALL if everybody else _identity(ledger, key, hash_)
        found = ledger.one(rate_limit.rate_limit_set_rule(policy or "", identity, None, None, note=None))
    if not found:
        show("there is no such rule; see: holdfast limits list")
        raise typer.Exit(1)
    show(f"taken back, {SOON}")


def _set(
    ledger: SyncLedger, verdict: str, identity: UUID, *, policy: str | None, lasts: float | None, note: str | None
) -> str:
    ledger.one(rate_limit.rate_limit_set_rule(policy or "", identity, verdict, lasts, note=note))
    done = "blocked" if verdict == "block" else "always admitted"
    return f"{done}{'' if lasts is None else f' for {timedelta(seconds=lasts)}'}, {SOON}"


def _identity(ledger: SyncLedger, key: str | None, hash_: UUID | None) -> UUID:
    if (key is None) == (hash_ is None):
        raise ConfigurationError("whose? give KEY (user:42, 192.0.2.7), or --hash with a hash that `limits top` shows")
    if hash_ is not None:
        return hash_
    if not key:
        raise ConfigurationError("KEY is empty; give the identity as programs name it: user:42, 192.0.2.7")
    return ledger.one(rate_limit.rate_limit_key(key))


def _identities(rows: list[rate_limit.IdentityRow], now: datetime) -> Table:
    page = table("POLICY", "IDENTITY", "IN ITS WINDOWS", "REFUSED", "ALL FREE")
    for row in rows:
        page.add_row(
            clean(row.policy), str(row.key), f"{row.admitted:,}", f"{row.refused:,}", relative(row.free_at, now)
        )
    return page


def _rules(rules: list[rate_limit.RuleRow], now: datetime) -> Table:
    page = table("RULE", "POLICY", "IDENTITY", "UNTIL", "NOTE")
    for rule in rules:
        page.add_row(
            rule.verdict if rule.verdict != "limit" else ", ".join(rule.limits),
            clean(rule.policy) or "every one",
            "everybody" if rule.key == rate_limit.ALL else str(rule.key),
            "for ever" if rule.until is None else relative(rule.until, now),
            clean(rule.note or ""),
        )
    return page


def _health(health: rate_limit.TableHealth) -> str:
    size = (health.table_bytes + health.index_bytes) / 2**20
    hot = "" if health.hot_ratio is None else f", {health.hot_ratio:.0%} of updates HOT"
    full = "; too many: new ones share places" if health.is_full else ""
    old = health.oldest_transaction
    held = (
        f"; process {health.oldest_pid} holds a transaction open for {old.total_seconds():.0f} s, which slows hot rows"
        if old is not None and old > timedelta(minutes=1)
        else ""
    )
    processes = f"{health.instances} limiting {'process' if health.instances == 1 else 'processes'}"
    identities = f"{health.identities:,} {'identity' if health.identities == 1 else 'identities'}"
    return f"{identities}, {size:.1f} MB{hot}{full}; {processes}{held}"
