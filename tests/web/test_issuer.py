"""Tokens of an issuer beside keys: who sends one, and which role a claim of it gives."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from holdfast.config import Settings
from holdfast.services.issuer import Issuer, IssuerSettings
from tests.services.helpers import until
from tests.support import Session, enqueue, row
from tests.web.support import ELSEWHERE, api_over
from tests.web.test_tokens import KEY, SECRET, key_set, signed

AUDIENCE = "authenticated"
OTHER = "another secret of at least thirty-two bytes"


def token(role: object = "operator", **more: Any) -> str:
    kid = more.get("kid")
    claims = {"aud": AUDIENCE, "email": "ann@example.org", "app_metadata": {"holdfast_role": role}, **more}
    return signed(KEY, "ES256", **claims) if kid else signed(**claims)


class Published(ThreadingHTTPServer):
    """An issuer: the keys that it publishes, and how often they were read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Keys)
        self.keys: dict[str, Any] = key_set("one")
        self.read = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/auth/v1"


class _Keys(BaseHTTPRequestHandler):
    server: Published

    def do_GET(self) -> None:
        self.server.read += 1
        is_there = self.path == "/auth/v1/.well-known/jwks.json"
        self.send_response(200 if is_there else 404)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.keys).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def published() -> Iterator[Published]:
    server = Published()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("sent", "role"),
    [
        (token(), "operator"),
        (token(["viewer", "admin", "sales"]), "admin"),
        (token("owner"), None),
        (token("canary"), None),
        (token(None), None),
        (token({"role": "admin"}), None),
        (token(aud="anon"), None),
        (token(aud=None), None),
        (token(sub=""), None),
        (token(exp=None), None),
        (token(exp=time.time() - 1), None),
        (signed(OTHER, aud=AUDIENCE, app_metadata={"holdfast_role": "admin"}), None),
        (token() + "a" * 20_000, None),
        ("a.b.c", None),
    ],
)  # fmt: skip
def test_a_role_comes_from_a_verified_claim_or_not_at_all(sent: str, role: str | None) -> None:
    found = Issuer(IssuerSettings(secret=SECRET)).find(sent)
    assert (found and found.role) == role


async def test_a_token_may_do_what_its_role_may_and_is_named_in_the_audit_log(database: str, conn: Session) -> None:
    id = enqueue(conn, args={"to": "ada"})
    async with api_over(database, is_private=False, issuer=IssuerSettings(secret=SECRET)) as api:
        for role, may in (("viewer", False), ("operator", True)):
            async with api.caller(ELSEWHERE, Authorization=f"Bearer {token(role)}") as client:
                assert (await client.get("/api/keys/self")).json()["role"] == role
                assert ((await client.get(f"/api/jobs/{id}")).json()["args"] is not None) == may
                answer = await client.post(f"/api/jobs/{id}/cancel")
                assert answer.status_code == (200 if may else 403)
        async with api.caller(ELSEWHERE, Authorization=f"Bearer {token('owner')}") as client:
            assert (await client.get("/api/jobs")).status_code == 401
    line = row(conn, "SELECT actor, role, via FROM holdfast.audit_log")
    assert line == {"actor": "user ann@example.org", "role": "operator", "via": "token"}


async def test_the_issuer_s_keys_are_read_in_the_background_and_again_for_an_unknown_one(
    database: str, published: Published
) -> None:
    issuer = IssuerSettings(issuer=published.url)
    async with api_over(database, is_private=False, issuer=issuer, started=False) as api:
        async with api.caller(ELSEWHERE, Authorization=f"Bearer {token(kid='one', iss=published.url)}") as client:
            early = await client.get("/api/keys/self")
            assert (early.status_code, "cannot be checked now" in early.json()["detail"]) == (503, True)
            await api.services.issuer.step()
            assert (await client.get("/api/keys/self")).json()["role"] == "operator"
        for sent in (
            token(kid="one", iss="https://elsewhere.example.org"),
            token(kid="two", iss=published.url),
            signed(SECRET, aud=AUDIENCE, iss=published.url, kid="one"),
        ):
            assert api.services.issuer.find(sent) is None
        assert published.read == 1


async def test_a_key_that_the_issuer_has_made_since_counts_soon(published: Published) -> None:
    issuer = Issuer(IssuerSettings(issuer=published.url), every=60.0, for_a_key=0.01)
    await issuer.step()
    published.keys = key_set("one", "two")
    new = token(kid="two", iss=published.url)
    assert issuer.find(new) is None
    await issuer.start()
    await until(lambda: issuer.find(new) is not None)
    await issuer.stop()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("jwt_issuer", "http://id.example.org", "https://"),
        ("jwt_secret", "short", "32 characters"),
        ("jwt_claim", "user_metadata.role", "users cannot write"),
    ],
)
def test_what_would_let_anybody_in_is_refused(name: str, value: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings.model_validate({name: value})
