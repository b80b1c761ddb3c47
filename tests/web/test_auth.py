"""Who is let in: by key, or from this machine as long as nobody made one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.postgres.embedded import EmbeddedPostgres
from tests.services.helpers import until
from tests.support import Session
from tests.web.support import ELSEWHERE, Api, api_over, frozen, make_token

NOWHERE = "postgresql://u:hunter2@127.0.0.1:1/x"


async def test_without_any_key_made_this_machine_needs_none_and_others_do(api: Api) -> None:
    assert (await api.client.get("/api/jobs")).status_code == 200
    async with api.caller(ELSEWHERE) as stranger:
        answer = await stranger.get("/api/jobs")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="holdfast"'
    assert "holdfast keys create" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example:8484"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example.org"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
    ids=str,
)
async def test_a_page_elsewhere_a_bent_name_or_a_proxy_does_not_count_as_this_machine(
    api: Api, headers: dict[str, str]
) -> None:
    assert (await api.client.get("/api/jobs", headers=headers)).status_code == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8484", "[::1]:8484"])
async def test_this_machine_s_own_names_are_taken(api: Api, host: str) -> None:
    assert (await api.client.get("/api/jobs", headers={"Host": host})).status_code == 200


async def test_an_api_that_others_reach_always_asks_for_a_key(database: str) -> None:
    async with api_over(database, is_private=False) as api:
        assert (await api.client.get("/api/jobs")).status_code == 401
        token = await make_token(api.services)
        answer = await api.client.get("/api/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


async def test_from_the_first_key_on_everybody_needs_one_also_after_it_is_revoked(api: Api, conn: Session) -> None:
    token = await make_token(api.services)
    await api.services.ring.step()
    headers = {"Authorization": f"Bearer {token}"}
    assert (await api.client.get("/api/jobs")).status_code == 401
    assert (await api.client.get("/api/jobs", headers=headers)).status_code == 200
    conn.execute("UPDATE holdfast.api_keys SET revoked_at = holdfast.clock()")
    await api.services.ring.step()
    assert (await api.client.get("/api/jobs")).status_code == 401
    refused = await api.client.get("/api/jobs", headers=headers)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


async def test_a_key_made_a_moment_ago_opens_at_once(api: Api) -> None:
    token = await make_token(api.services)
    answer = await api.client.get("/api/keys/self", headers={"Authorization": f"bearer {token}"})
    assert answer.json() == {"id": token.split("_")[1], "name": "test", "role": "admin"}


async def test_a_canary_key_may_only_look(api: Api) -> None:
    token = await make_token(api.services, role="canary", valid_for=60)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await api.client.get("/api/keys/self", headers=headers)).json()["role"] == "canary"
    assert "checks" in (await api.client.get("/api/health", headers=headers)).json()
    refused = await api.client.get("/api/jobs", headers=headers)
    assert refused.status_code == 403
    assert "has the role canary" in refused.json()["detail"]
    assert (await api.client.get("/api/jobs")).status_code == 200, "a canary is not counted as a key in use"


async def test_a_key_of_a_role_that_this_version_does_not_know_opens_nothing(api: Api, conn: Session) -> None:
    conn.execute("ALTER TABLE holdfast.api_keys DROP CONSTRAINT api_keys_role")
    token = await make_token(api.services, role="auditor")
    answer = await api.client.get("/api/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer hf_short", "Basic dTpw", "Bearer hf_aaaaaaaa_" + "A" * 43, "Bearer \xff"]
)
async def test_what_is_no_key_of_ours_opens_nothing_even_here(api: Api, value: str) -> None:
    answer = await api.client.get("/api/jobs", headers=[(b"Authorization", value.encode("latin-1"))])
    assert answer.status_code == 401


async def test_the_right_id_with_another_secret_opens_nothing(api: Api) -> None:
    token = await make_token(api.services)
    forged = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    answer = await api.client.get("/api/jobs", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401


async def test_while_the_ledger_is_away_known_keys_open_and_unknown_ones_cannot_be_judged() -> None:
    async with api_over(NOWHERE, started=False, timeout=2.0) as api:
        local = await api.client.get("/api/jobs")
        stranger = await api.client.get("/api/jobs", headers={"Authorization": "Bearer hf_aaaaaaaa_" + "A" * 43})
    assert (local.status_code, stranger.status_code) == (503, 503)
    assert "your key cannot be checked" in stranger.json()["detail"]


async def test_who_calls_in_the_first_moment_waits_for_the_first_look_at_the_keys(database: str) -> None:
    async with api_over(database, started=False) as api:
        assert (await api.client.get("/api/jobs")).status_code == 200


async def test_probes_and_health_wait_for_no_key_while_the_ledger_stands_still(own_server: EmbeddedPostgres) -> None:
    headers = {"Authorization": "Bearer hf_aaaaaaaa_" + "A" * 43}
    async with api_over(own_server.dsn, timeout=40.0, limiter_deadline=0.05) as api:
        with frozen(own_server):
            asked = (api.client.get(path, headers=headers) for path in ("/livez", "/readyz", "/api/health", "/metrics"))
            answers = await asyncio.wait_for(asyncio.gather(*asked), 20)
    assert [answer.status_code for answer in answers[:1]] == [200]
    assert set(answers[2].json()) == {"status"}
    assert answers[3].status_code == 503


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer hf_nonsense"}], ids=str)
@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
async def test_what_a_stranger_sends_is_not_read(api: Api, headers: dict[str, str], media_type: str) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"{")
        yield b"{"

    async with api.caller(ELSEWHERE, **headers) as stranger:
        answer = await stranger.post("/api/jobs", content=body(), headers={"Content-Type": media_type})
    assert (answer.status_code, read) == (401, [])


async def test_the_use_of_a_key_is_noted_to_the_minute(api: Api, conn: Session) -> None:
    token = await make_token(api.services)
    await api.client.get("/api/keys/self", headers={"Authorization": f"Bearer {token}"})
    # By the ring in the background, each 0.05 s here.
    await until(lambda: conn.execute("SELECT id FROM holdfast.api_keys WHERE last_used_at IS NOT NULL").fetchone())


async def test_the_ledger_keeps_no_key(api: Api, conn: Session) -> None:
    token = await make_token(api.services)
    stored = conn.execute("SELECT to_jsonb(k)::text AS row FROM holdfast.api_keys k").fetchone()
    assert stored is not None
    assert token.split("_", 2)[2] not in stored["row"]


async def test_an_expired_key_opens_nothing(api: Api, conn: Session) -> None:
    token = await make_token(api.services, valid_for=3600)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await api.client.get("/api/keys/self", headers=headers)).status_code == 200
    conn.execute("UPDATE holdfast.api_keys SET expires_at = holdfast.clock() - interval '1 second'")
    await api.services.ring.step()
    await until(lambda: api.services.ring.in_use is True)
    assert (await api.client.get("/api/keys/self", headers=headers)).status_code == 401
