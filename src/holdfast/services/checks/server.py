"""Is the server one that Holdfast knows, is the way to it private, do its clock and ours agree, has it room?"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.dsn import is_local, is_rest, parse
from holdfast.postgres.examine import ServerFacts, server_facts
from holdfast.services.checks.deployment import Deployment

NAMES: Mapping[str, str] = {
    "database.version": "database",
    "database.tls": "database",
    "database.clock": "database",
    "database.room": "database",
    "database.writable": "database",
}
_COMPONENT = "database"
OLDEST, NEWEST = 15, 18
#: Seconds of difference between the clocks that are a warning.
MOST_SKEW = 5.0


async def check_server(deployment: Deployment) -> list[Finding]:
    """The server's version, TLS, clock, room for connections, and whether it can be written to."""
    before = time.time()
    facts = await deployment.ledger.one(server_facts())
    halfway = datetime.fromtimestamp((before + time.time()) / 2, UTC)
    return judge(deployment.dsn, facts, facts.clock - halfway)


def judge(dsn: str, facts: ServerFacts, skew: timedelta) -> list[Finding]:
    """From what the server says of itself, and how far its clock is ahead of ours."""
    return [_version(facts), _tls(dsn, facts), _clock(skew), _room(facts), _writable(facts)]


def _version(facts: ServerFacts) -> Finding:
    major, code = facts.version // 10000, f"Postgres {OLDEST} to {NEWEST}"
    id, found = "database.version", f"Postgres {major}"
    if major < OLDEST:
        return Finding(id, _COMPONENT, Verdict.FAIL, found, code, f"upgrade the server to Postgres {OLDEST} or newer")
    if major > NEWEST:
        fix = "upgrade Holdfast, or run its tests on this version first"
        return Finding(id, _COMPONENT, Verdict.WARN, f"{found}, which is newer than what is tested", code, fix)
    return Finding(id, _COMPONENT, Verdict.PASS, found, code)


def _tls(dsn: str, facts: ServerFacts) -> Finding:
    id, code = "database.tls", "TLS to whatever is not on this machine"
    if is_rest(dsn):
        # Beyond this machine the settings take no address without TLS.
        return Finding(id, _COMPONENT, Verdict.PASS, f"the way to it is {dsn.partition(':')[0].upper()}", code)
    mode = parse(dsn).get("sslmode", "prefer")
    if is_local(dsn):
        return Finding(id, _COMPONENT, Verdict.PASS, "the server is on this machine", code)
    if facts.is_encrypted is False:
        fix = "set sslmode in DATABASE_URL: ...?sslmode=verify-full&sslrootcert=system"
        return Finding(id, _COMPONENT, Verdict.FAIL, "passwords and jobs cross the network in the clear", code, fix)
    if mode in ("disable", "allow", "prefer"):
        fix = "set sslmode in DATABASE_URL: ...?sslmode=verify-full&sslrootcert=system (or require at least)"
        found = f"encrypted now, and sslmode={mode} would go on without"
        return Finding(id, _COMPONENT, Verdict.WARN, found, code, fix)
    return Finding(id, _COMPONENT, Verdict.PASS, f"encrypted, sslmode={mode}", code)


def _clock(skew: timedelta) -> Finding:
    id, code = "database.clock", f"at most {MOST_SKEW:g} s apart; leases are judged by the database's clock alone"
    seconds = skew.total_seconds()
    if abs(seconds) > MOST_SKEW:
        fix = "synchronise this machine's clock: timedatectl set-ntp true"
        found = f"the server's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
        return Finding(id, _COMPONENT, Verdict.WARN, found, code, fix)
    return Finding(id, _COMPONENT, Verdict.PASS, f"its clock and ours are {abs(seconds) * 1000:.0f} ms apart", code)


def _room(facts: ServerFacts) -> Finding:
    id, code = "database.room", "a worker holds 3 to 5 connections, an API process 7"
    found = f"{facts.connections} of {facts.max_connections} connections are taken"
    if facts.connections > 0.9 * facts.max_connections:
        fix = "raise max_connections, or run fewer processes; SELECT application_name, count(*) FROM pg_stat_activity"
        return Finding(id, _COMPONENT, Verdict.WARN, found, code, f"{fix} GROUP BY 1 tells whose they are")
    return Finding(id, _COMPONENT, Verdict.PASS, found, code)


def _writable(facts: ServerFacts) -> Finding:
    id, code = "database.writable", "the primary, which takes writes"
    if facts.is_standby:
        fix = "point DATABASE_URL at the primary (target_session_attrs=read-write finds it among several hosts)"
        return Finding(id, _COMPONENT, Verdict.FAIL, "this server is a standby: it is read-only", code, fix)
    return Finding(id, _COMPONENT, Verdict.PASS, "it takes writes", code)
