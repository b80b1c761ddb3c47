"""Who sends a request, as far as a rate limit may believe it: the peer's address, unless that is a trusted proxy."""

import ipaddress
from collections.abc import Sequence

from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What one customer is given at least: whoever has one IPv6 address has all of these.
V6_PREFIX = 64


def client(scope: Scope, trusted: Sequence[Network] = ()) -> str:
    """The identity of whoever sent this request.

    Behind a trusted proxy `X-Forwarded-For` is read from the right, the side that proxies write: the first address that
    is no trusted proxy counts. What stands left of it is the sender's own word, and whatever is no address ends
    the walk.
    """
    peer = scope.get("client")
    found = _parse(peer[0]) if peer else None
    if found is None:
        return "unknown"
    for hop in reversed(_forwarded(scope)):
        if not any(found in network for network in trusted):
            break
        before = _parse(hop)
        if before is None:
            break
        found = before
    return _name(found)


def _forwarded(scope: Scope) -> list[str]:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return [part.strip() for part in ",".join(values).split(",")] if values else []


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _name(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, V6_PREFIX), strict=False))
