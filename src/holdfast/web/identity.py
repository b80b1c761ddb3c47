"""Who sends a request, as far as a rate limit may believe it.

First whom the application itself has recognised (an API key, the subject of a token); else the address: the peer's,
unless that is a trusted proxy.
"""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from holdfast.web.asgi import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Tells from the ASGI scope who sends a request that proves it; None where it proves nothing.
Authenticate = Callable[[Scope], str | Awaitable[str | None] | None]

_log = logging.getLogger("holdfast")

#: What one customer is given at least: whoever has one IPv6 address has all of these.
V6_PREFIX = 64
NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: More hops than any real request has are the sender's invention.
MOST_HOPS = 50
#: What platforms that always put a proxy in front leave in the environment.
BEHIND_PROXIES = {
    "DYNO": "Heroku",
    "FLY_APP_NAME": "Fly.io",
    "K_SERVICE": "Cloud Run",
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
    "RAILWAY_ENVIRONMENT": "Railway",
    "RENDER": "Render",
    "WEBSITE_HOSTNAME": "Azure App Service",
}


class Identify:
    """Names the sender of a request: `authenticate` first, then the address. For `RateLimitMiddleware`.

    An `authenticate` must have verified what it returns (a key's id, a token's subject): whoever can choose a name at
    will has no limit. Names should have a prefix, as in "key:7f3a": addresses have none.
    """

    def __init__(
        self,
        trusted_proxies: Sequence[Network] = (),
        *,
        authenticate: Authenticate | None = None,
        v6_prefix: int = V6_PREFIX,
    ) -> None:
        self._trusted = trusted_proxies
        self._authenticate = authenticate
        self._v6_prefix = v6_prefix
        self._has_warned = False

    async def __call__(self, scope: Scope) -> str:
        if self._authenticate is not None:
            name = self._authenticate(scope)
            if name is not None and not isinstance(name, str):
                name = await name
            if name is not None:
                return name
        if not self._has_warned:
            self._warn(scope)
        return client(scope, self._trusted, self._v6_prefix)

    def _warn(self, scope: Scope) -> None:
        """A proxy that nobody named: all who come through it would share one limit."""
        if not any(name in (b"x-forwarded-for", b"forwarded") for name, _ in scope["headers"]):
            return
        peer = _parse(scope["client"][0]) if scope.get("client") else None
        if peer is None or any(peer in network for network in self._trusted):
            return
        if peer.is_private or peer.is_loopback:
            self._has_warned = True
            _log.warning(
                "requests come through %s, which seems to be a proxy and is not among the trusted ones: all its callers"
                " share one rate limit; if it is yours, set HOLDFAST_TRUSTED_PROXIES=%s",
                peer,
                peer,
            )


def proxy_hint(environment: Mapping[str, str], trusted_proxies: Sequence[object]) -> str | None:
    """What to say at start-up where a proxy must stand in front and none is configured."""
    found = [name for variable, name in BEHIND_PROXIES.items() if environment.get(variable)]
    if trusted_proxies or not found:
        return None
    return (
        f"this seems to run on {found[0]}, behind a proxy, and HOLDFAST_TRUSTED_PROXIES is not set:"
        " all callers without a key share one rate limit"
    )


def client(scope: Scope, trusted: Sequence[Network] = (), v6_prefix: int = V6_PREFIX) -> str:
    """The address of whoever sent this request, as an identity.

    Behind a trusted proxy `X-Forwarded-For` (or, where that is missing, `Forwarded`, RFC 7239) is read from the right,
    the side that proxies write: the first address that is no trusted proxy counts. What stands left of it is the
    sender's own word, and whatever is no address ends the walk. IPv4 that is written as IPv6 (mapped, NAT64) is
    unfolded; other IPv6 counts by its /64.
    """
    peer = scope.get("client")
    found = _parse(peer[0]) if peer else None
    if found is None:
        return "unknown"
    if trusted:
        for hop in reversed(_hops(scope)):
            if not any(found in network for network in trusted):
                break
            before = _parse(hop)
            if before is None:
                break
            found = before
    return _name(found, v6_prefix)


def _hops(scope: Scope) -> list[str]:
    forwarded_for = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    if forwarded_for:
        return _split(forwarded_for)
    elements = _split([value for name, value in scope["headers"] if name == b"forwarded"])
    return [_node(element) for element in elements]


def _split(values: Sequence[bytes]) -> list[str]:
    """The last hops of a list; a header of a megabyte is not taken apart."""
    text = b",".join(values)[-4096:].decode("latin-1")
    return [part.strip() for part in text.split(",")[-MOST_HOPS:]] if values else []


def _node(element: str) -> str:
    """The address in an element of `Forwarded`: for=192.0.2.60;proto=http, for="[2001:db8::17]:4711"."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _parse(text: str) -> Address | None:
    text = text.partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _name(address: Address, v6_prefix: int) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, v6_prefix), strict=False))
