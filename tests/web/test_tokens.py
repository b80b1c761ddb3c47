"""Whom a token names, for rate limits: only what was verified counts."""

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from holdfast.errors import ConfigurationError
from holdfast.services.limiter import RateLimiter
from holdfast.web.identity import Identify
from holdfast.web.rate_limit import RateLimitMiddleware
from holdfast.web.tokens import LONGEST, jwt_subject
from tests.web.test_rate_limit import calling, plain

SECRET = "a secret of more than sixty-four bytes, so that HS512 is content with it too"
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    claims = {"sub": "ann", "exp": time.time() + 3600, **claims}
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else None)


def bearing(token: str) -> dict[str, Any]:
    return {"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]}


def key_set(*ids: str) -> dict[str, Any]:
    one = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
    return {"keys": [{**one, "kid": each, "alg": "ES256"} for each in ids]}


def test_the_subject_of_a_verified_token_is_who_asks() -> None:
    assert jwt_subject(SECRET, algorithms=["HS256"])(bearing(signed())) == "user:ann"
    assert jwt_subject(PEM.decode(), algorithms=["ES256"])(bearing(signed(KEY, "ES256"))) == "user:ann"
    tells = jwt_subject(SECRET, algorithms=["HS256"], audience="authenticated", issuer="https://id.example.org")
    assert tells(bearing(signed(aud="authenticated", iss="https://id.example.org"))) == "user:ann"


@pytest.mark.parametrize(
    "token",
    [
        signed("another secret of at least thirty-two bytes"),
        signed(exp=time.time() - 1),
        signed(nbf=time.time() + 3600),
        signed(sub=None),
        signed(sub=""),
        signed(aud="somebody else"),
        signed(algorithm="HS512"),
        signed(key="", algorithm="none"),
        signed(KEY, "ES256"),
        signed()[:-4],
        "a.b.c",
        "",
        "\x00",
        signed(more="x" * LONGEST),
    ],
    ids=(
        "secret",
        "expired",
        "early",
        "nobody",
        "empty",
        "audience",
        "algorithm",
        "none",
        "key",
        "cut",
        "parts",
        "nothing",
        "null",
        "long",
    ),
)
def test_what_proves_nothing_is_nobody(token: str) -> None:
    assert jwt_subject(SECRET, algorithms=["HS256"])(bearing(token)) is None


def test_a_public_key_is_never_a_secret() -> None:
    """The classic confusion: signed with HMAC, whose secret is the text of the public key."""
    import base64
    import hashlib
    import hmac

    head, body = (base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=")
                  for each in ({"alg": "HS256", "typ": "JWT"}, {"sub": "ann"}))  # fmt: skip
    mac = base64.urlsafe_b64encode(hmac.digest(PEM, head + b"." + body, hashlib.sha256)).rstrip(b"=")
    token = b".".join((head, body, mac)).decode()
    for algorithms in (["ES256"], ["ES256", "HS256"]):
        assert jwt_subject(PEM.decode(), algorithms=algorithms)(bearing(token)) is None


def test_the_key_of_a_set_is_the_one_that_the_token_names() -> None:
    tells = jwt_subject(key_set("new", "old"), algorithms=["ES256"])
    assert tells(bearing(signed(KEY, "ES256", kid="old"))) == "user:ann"
    assert tells(bearing(signed(KEY, "ES256", kid="unknown"))) is None
    assert tells(bearing(signed(KEY, "ES256"))) is None
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert tells(bearing(signed(foreign, "RS256", kid="old"))) is None
    only = jwt_subject(json.dumps(key_set("only")), algorithms=["ES256"])
    assert only(bearing(signed(KEY, "ES256"))) == "user:ann"


@pytest.mark.parametrize(
    ("key", "algorithms", "said"),
    [
        (SECRET, [], "must be a list"),
        (SECRET, "HS256", "must be a list"),
        (SECRET, ["none"], "must be a list"),
        (SECRET, ["HS257"], "HS256"),
        ("", ["HS256"], "is empty"),
        ({"keys": []}, ["ES256"], "cannot be read"),
        ({}, ["ES256"], "cannot be read"),
        ("{", ["ES256"], "cannot be read"),
    ],
)
def test_what_cannot_verify_anything_is_refused_at_once(key: Any, algorithms: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        jwt_subject(key, algorithms=algorithms)


async def test_each_subject_has_a_limit_of_its_own_and_the_others_have_their_address() -> None:
    identify = Identify(authenticate=jwt_subject(SECRET, algorithms=["HS256"]))
    app = RateLimitMiddleware(plain, limiter=RateLimiter(None), limit="2/minute", identify=identify)
    ann, bob = ({"Authorization": f"Bearer {signed(sub=name)}"} for name in ("ann", "bob"))
    async with calling(app) as caller:
        assert [(await caller.get("/", headers=ann)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await caller.get("/", headers=bob)).status_code == 200
        forged = [{"Authorization": f"Bearer {signed('x' * 40, sub=f'made up {n}')}"} for n in range(3)]
        assert [(await caller.get("/", headers=each)).status_code for each in forged] == [200, 200, 429]
