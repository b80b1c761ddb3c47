"""Tokens of an issuer (JSON Web Tokens, RFC 7519): who sends one, and which role a claim of it gives.

The issuer's public keys (RFC 7517) are read in the background and never for a request, since anybody can send a token
that names an unknown key. While the issuer is away the keys that are known go on to count.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.core.api_keys import Role
from holdfast.core.claims import role_of
from holdfast.errors import ConfigurationError, HoldfastError
from holdfast.services.background import Background

if TYPE_CHECKING:
    import jwt

_log = logging.getLogger("holdfast")

#: Seconds: between two reads of the keys, after one that failed, before one for an unknown key, and that one may take.
EVERY, SOON, FOR_A_KEY, DEADLINE = 600.0, 10.0, 30.0, 5.0
#: Characters of a token, bytes of a key set.
LONGEST, MOST_BYTES = 16_384, 1_000_000
#: What public keys sign with; a token never chooses, least of all a secret's algorithm.
_BY_KEYS = ["ES256", "RS256", "EdDSA"]


class KeysNotRead(HoldfastError):
    """The issuer's keys are not known yet, so no token can be verified."""


@dataclass(frozen=True)
class Holder:
    """Whoever a valid token names, by its `sub`, and an address of theirs if it has one."""

    subject: str
    role: Role
    email: str = ""


@dataclass(frozen=True)
class IssuerSettings:
    """Whose tokens count: signed with `secret`, or with the keys that `issuer` publishes; for `audience`.

    `claim` is the path of the claim that names the role.
    """

    issuer: str | None = None
    secret: str | None = None
    audience: str = "authenticated"
    claim: str = "app_metadata.holdfast_role"

    @property
    def keys_url(self) -> str | None:
        """Where the keys are; None where there is a secret instead."""
        return None if self.secret or not self.issuer else f"{self.issuer.rstrip('/')}/.well-known/jwks.json"


class Issuer:
    """Verifies tokens. Without an issuer or a secret there is none that counts."""

    def __init__(self, settings: IssuerSettings, *, every: float = EVERY, for_a_key: float = FOR_A_KEY) -> None:
        self.loop = Background("the issuer's keys", within=EVERY + 60)
        self._settings = settings
        self._every = every
        self._for_a_key = for_a_key
        self._keys: Mapping[str, jwt.PyJWK] | None = None
        self._wanted = asyncio.Event()
        if self.is_used:
            _require_pyjwt()

    @property
    def is_used(self) -> bool:
        """Whether any token may count."""
        return bool(self._settings.secret or self._settings.issuer)

    async def start(self) -> None:
        """Begin to read the keys; returns at once."""
        if self._settings.keys_url:
            self.loop.start(self._run())

    async def stop(self) -> None:
        await self.loop.stop()

    def find(self, token: str) -> Holder | None:
        """Who sends it; None where it opens nothing. Raises `KeysNotRead`."""
        import jwt

        if not self.is_used or len(token) > LONGEST or token.count(".") != 2:
            return None
        try:
            claims = self._claims(token)
        except (jwt.PyJWTError, TypeError, ValueError):
            return None
        role = role_of(claims, self._settings.claim)
        if role is None or not claims["sub"]:
            return None
        email = claims.get("email")
        return Holder(str(claims["sub"])[:200], role, email[:200] if isinstance(email, str) else "")

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        found: dict[str, Any] = jwt.decode(
            token,
            self._settings.secret or self._key(jwt.get_unverified_header(token).get("kid")),
            algorithms=["HS256"] if self._settings.secret else _BY_KEYS,
            audience=self._settings.audience,
            issuer=self._settings.issuer,
            options={"require": ["exp", "sub"]},
        )
        return found

    def _key(self, id: object) -> "jwt.PyJWK":
        if self._keys is None:
            raise KeysNotRead("the issuer's keys could not be read yet")
        if not isinstance(id, str) or id not in self._keys:
            self._wanted.set()
            raise ValueError("no key of the issuer has this id")
        return self._keys[id]

    async def step(self) -> None:
        """Read the keys. Raises what goes wrong."""
        import httpx
        import jwt

        url = self._settings.keys_url
        assert url is not None
        content = b""
        async with asyncio.timeout(DEADLINE), httpx.AsyncClient() as client, client.stream("GET", url) as answer:
            answer.raise_for_status()
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > MOST_BYTES:
                    raise ValueError(f"the key set has more than {MOST_BYTES:,} bytes")
        self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(json.loads(content)).keys if key.key_id}

    async def _run(self) -> None:
        while True:
            self.loop.turned()
            wait, began = self._every, time.monotonic()
            try:
                await self.step()
            except Exception as error:
                wait = SOON
                why = str(error) or type(error).__name__
                _log.warning("the keys of %s could not be read: %s", self._settings.issuer, why)
            self._wanted.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wanted.wait()
                    await asyncio.sleep(max(0.0, began + self._for_a_key - time.monotonic()))
            except TimeoutError:
                pass


def _require_pyjwt() -> None:
    try:
        import jwt  # noqa: F401
    except ImportError:
        raise ConfigurationError("tokens of an issuer need the extra `jwt`: pip install 'holdfast[jwt]'") from None
