"""A webhook of your own: JSON over HTTPS, signed as https://www.standardwebhooks.com says.

`webhook-id` is the same for each try of one notification: a receiver that was told twice can tell. Its signature is
over id, time and body, so that nobody else can make one, and nobody can send an old one again.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from holdfast.notify.addresses import check_webhook
from holdfast.notify.channel import Outcome
from holdfast.notify.posting import Poster, classify_plainly

DEADLINE = 10.0
_PREFIX = "whsec_"


class WebhookChannel:
    """Posts {reason, title, lines, command, incident} to one address. `secret`: as text, or whsec_ and base64."""

    name = "webhook"
    takes_digests = False
    pace = 0.1

    def __init__(
        self,
        url: SecretStr,
        secret: SecretStr | None = None,
        *,
        deadline: float = DEADLINE,
        now: Callable[[], float] = time.time,
    ) -> None:
        check_webhook(url.get_secret_value(), setting="HOLDFAST_WEBHOOK_URL")
        self._url = url
        self._secret = secret
        self._now = now
        self._poster = Poster("the webhook", classify_plainly("the webhook"), deadline=deadline)

    async def send(self, reason: str, content: Mapping[str, Any]) -> Outcome:
        """Post it once."""
        body = json.dumps({"reason": reason, **content}, default=str).encode()
        id, at = str(content.get("notification") or content.get("incident") or "test"), str(int(self._now()))
        headers = {"webhook-id": id, "webhook-timestamp": at}
        if self._secret is not None:
            headers["webhook-signature"] = sign(self._secret.get_secret_value(), id, at, body)
        return await self._poster.post(self._url.get_secret_value(), body, headers)

    async def close(self) -> None:
        await self._poster.close()


def sign(secret: str, id: str, at: str, body: bytes) -> str:
    """The signature of a message: its scheme's version and the base64 of an HMAC-SHA256.

    >>> sign("secret", "1", "1700000000", b"{}")[:3]
    'v1,'
    """
    key = base64.b64decode(secret.removeprefix(_PREFIX)) if secret.startswith(_PREFIX) else secret.encode()
    digest = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
