"""Which ways lead from here to the database, and why the others do not: names, ports, HTTPS, keys, poolers.

Looked at for a Supabase project, which has several, and for a database that does not answer. Nothing is sent but a
connection attempt, or a request that reads. What is closed is no failure while another way is open.
"""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable
from dataclasses import dataclass

from holdfast.core.findings import Finding, Verdict
from holdfast.errors import ConfigurationError, HoldfastError
from holdfast.postgres import reads
from holdfast.postgres.dsn import POOLER_PORT, POOLER_SUFFIX, is_rest, parse
from holdfast.postgres.ledger import AsyncLedger
from holdfast.postgres.management import ManagementApi, Pooler
from holdfast.postgres.rest import place_of
from holdfast.postgres.routes import StatementError
from holdfast.postgres.supabase import KeyKind, jwt_claims, key_kind
from holdfast.services.migrator import Target

COMPONENT = "routes"
NAMES = {"routes": COMPONENT}
#: Seconds: to resolve a name, to connect, to be answered.
DEADLINE = 5.0
SESSION_PORT, TRANSACTION_PORT = 5432, int(POOLER_PORT)


@dataclass(frozen=True)
class Look:
    """What one way is like: open (True), closed (False), or not there to be looked at (None)."""

    name: str
    is_open: bool | None
    said: str


async def check_routes(target: Target, https: str | None, *, seen_working: bool) -> list[Finding]:
    """A line for each way. `https`: the ledger's address there; `seen_working`: the database answered already."""
    looks = await asyncio.gather(*_looks(target, https))
    if not looks:
        return []  # a socket of this machine: no network is in between
    found = [_finding(look) for look in looks]
    working = [look.name for look in looks if look.is_open]
    if working or seen_working:
        said = f"open from here: {', '.join(working)}" if working else "the one that is in use"
        return [*found, Finding("routes.open", COMPONENT, Verdict.PASS, said, "one is enough")]
    fix = (
        "set SUPABASE_ACCESS_TOKEN for migrations over HTTPS, and SUPABASE_URL with SUPABASE_SERVICE_KEY to run over it"
        if target.is_supabase
        else "ask whoever runs this network to let out connections to the database's port"
    )
    return [*found, Finding("routes.open", COMPONENT, Verdict.FAIL, "no way is open from here", "one is enough", fix)]


def _looks(target: Target, https: str | None) -> list[Awaitable[Look]]:
    looks: list[Awaitable[Look]] = []
    if _has_network(target):
        looks.append(_direct(target.dsn or ""))
    if target.ref is not None:
        looks += [_pooler(target), _api(target)]
    if https is not None:
        looks.append(_https(https))
    return looks


def lines(target: Target, https: str | None) -> dict[str, str]:
    """The lines that `check_routes` brings: id and component."""
    ways = [
        *(["direct"] if _has_network(target) else []),
        *(["pooler", "api"] if target.ref is not None else []),
        *(["https"] if https is not None else []),
    ]
    return {**{f"routes.{way}": f"route {way}" for way in ways}, "routes.open": COMPONENT} if ways else {}


def _has_network(target: Target) -> bool:
    """Whether there is a network between here and the database's own address, and no socket of this machine."""
    if target.dsn is None or is_rest(target.dsn):
        return False
    return not parse(target.dsn).get("host", "/").startswith("/")


def _finding(look: Look) -> Finding:
    verdict = Verdict.PASS if look.is_open else Verdict.SKIP
    return Finding(f"routes.{look.name}", f"route {look.name}", verdict, look.said)


async def _direct(dsn: str) -> Look:
    parts = parse(dsn)
    host, port = parts.get("host", "").partition(",")[0], int(parts.get("port", "5432").partition(",")[0])
    told, addresses = await _names(host, parts.get("hostaddr"))
    if not addresses:
        return Look("direct", False, told)
    is_open, said = await _port(addresses, port)
    return Look("direct", is_open, f"{told}; {said}{_mode(host, port)}")


def _mode(host: str, port: int) -> str:
    if port == TRANSACTION_PORT:
        return "; a pooler in transaction mode"
    return "; a pooler in session mode" if host.endswith(POOLER_SUFFIX) else ""


async def _names(host: str, given: str | None = None) -> tuple[str, list[str]]:
    """What a name stands for, and its addresses."""
    if given is not None:
        return f"{host} at {given} (as told)", [given]
    try:
        async with asyncio.timeout(DEADLINE):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        return f"{host}: no answer from the name server within {DEADLINE:g} s", []
    except OSError as error:
        return f"{host}: no address ({error.strerror or error})", []
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    kinds = {ipaddress.ip_address(each.partition("%")[0]).version for each in addresses}
    told = {
        frozenset({4}): "A record",
        frozenset({6}): "AAAA record only: IPv6-only",
        frozenset({4, 6}): "A and AAAA records",
    }
    return f"{host}: {told[frozenset(kinds)]}", addresses


async def _port(addresses: list[str], port: int) -> tuple[bool, str]:
    """Whether anybody takes a TCP connection, at the first address that does."""
    said = ""
    for address in addresses[:3]:
        try:
            async with asyncio.timeout(DEADLINE):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            said = f"TCP to port {port}: no answer within {DEADLINE:g} s, as a firewall does it"
        except OSError as error:
            reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
            no_ipv6 = ":" in address and "unreachable" in reason
            said = f"TCP to port {port}: {reason}" + (" (this network has no IPv6)" if no_ipv6 else "")
        else:
            writer.close()
            return True, f"TCP to port {port} is open"
    return False, said


async def _pooler(target: Target) -> Look:
    if target.token is None or target.ref is None:
        return Look("pooler", None, "its address is not known: set SUPABASE_ACCESS_TOKEN")
    try:
        found = await asyncio.to_thread(_ask_pooler, target)
    except (HoldfastError, StatementError) as error:
        return Look("pooler", False, f"its address is not known: {error}")
    told, addresses = await _names(found.host)
    if not addresses:
        return Look("pooler", False, told)
    ports = {SESSION_PORT: "session mode", TRANSACTION_PORT: "transaction mode"}
    if not found.host.endswith(POOLER_SUFFIX):
        ports = {found.port: "as told"}
    results = [(mode, await _port(addresses, port)) for port, mode in ports.items()]
    said = "; ".join(f"{mode}: {told_of_port}" for mode, (_, told_of_port) in results)
    return Look("pooler", any(is_open for _, (is_open, _) in results), f"{told}; {said}")


def _ask_pooler(target: Target) -> Pooler:
    api = _open_api(target)
    try:
        return api.pooler()
    finally:
        api.close()


def _open_api(target: Target) -> ManagementApi:
    assert target.ref is not None
    assert target.token is not None
    return ManagementApi(target.ref, target.token.get_secret_value(), address=target.api_address)


async def _api(target: Target) -> Look:
    if target.token is None:
        return Look("api", None, "the Management API needs SUPABASE_ACCESS_TOKEN (a token of your account, sbp_...)")
    try:
        await asyncio.to_thread(_ask_api, target)
    except (HoldfastError, StatementError) as error:
        return Look("api", False, str(error))
    return Look("api", True, f"HTTPS to {target.api_address}: this token may run SQL in project {target.ref}")


def _ask_api(target: Target) -> None:
    api = _open_api(target)
    try:
        api.rows("SELECT 1")
    finally:
        api.close()


async def _https(address: str) -> Look:
    place = place_of(address)
    kind = describe_key(place.key)
    try:
        ledger = AsyncLedger(address, name="holdfast doctor", deadline=DEADLINE)
    except ConfigurationError as error:
        return Look("https", False, str(error))
    try:
        await ledger.one(reads.ping())
    except HoldfastError as error:
        return Look("https", False, f"{error} (the key: {kind})")
    finally:
        await ledger.close()
    return Look("https", True, f"HTTPS to {place.url}: the ledger answers (the key: {kind})")


def describe_key(key: str) -> str:
    """Which kind of key it is, and whose; never the key.

    >>> describe_key("sb_secret_0123")
    'secret, new form'
    """
    kind, claims = key_kind(key), jwt_claims(key)
    if claims is not None:
        of = f" of project {claims.ref}" if claims.ref else ""
        return f"{claims.role or 'unknown role'}, a JWT{of}"
    return f"{kind}, new form" if kind in (KeyKind.SECRET, KeyKind.PUBLISHABLE) else kind.value
