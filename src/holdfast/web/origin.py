"""Whether a request that a browser sent comes from a page of this site.

Browsers say so themselves in `Sec-Fetch-Site`, which no script can write (https://www.w3.org/TR/fetch-metadata/): for
what changes anything only `same-origin` will do. Older ones send `Origin`, which must be the address that was asked.
Without either nothing is believed.
"""

from starlette.types import Scope


def is_from_this_site(scope: Scope) -> bool:
    """Whether it is proven."""
    headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get(b"origin", "")
    host = headers.get(b"host", "")
    return names(origin, host)


def names(origin: str, host: str) -> bool:
    """Whether an `Origin` is of the host that was asked.

    >>> names("http://localhost:8484", "localhost:8484"), names("null", ""), names("http://[", "localhost")
    (True, False, False)
    """
    return bool(host) and origin.partition("://")[2] == host
