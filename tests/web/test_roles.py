"""Who may do what: each role tries each action of the API and the dashboard, and is answered as the table says."""

from collections.abc import AsyncIterator

import pytest

from holdfast.core.access import MAY, Permission, may
from holdfast.core.api_keys import Role
from tests.support import Session, enqueue, rows
from tests.web.support import ELSEWHERE, Api, api_over, make_token

ID = "019aba3c-0000-7000-8000-000000000000"
LOOK, ACT, AUDIT, ASK, SUBMIT, SELF = (
    Permission.LOOK, Permission.ACT, Permission.AUDIT, Permission.ASK, Permission.SUBMIT, Permission.SELF,
)  # fmt: skip
#: Each address, what it takes, and what is sent; a job, operation or incident of that id is not there.
ACTIONS = [
    ("POST /api/jobs", SUBMIT, {"kind": "k"}),
    ("GET /api/jobs", LOOK, None),
    (f"GET /api/jobs/{ID}", ASK, None),
    (f"POST /api/jobs/{ID}/cancel", ACT, None),
    (f"POST /api/jobs/{ID}/retry", ACT, None),
    ("GET /api/queues", LOOK, None),
    ("POST /api/queues/q/pause", ACT, None),
    ("POST /api/queues/q/resume", ACT, None),
    ("GET /api/workers", LOOK, None),
    ("GET /api/periodic", LOOK, None),
    ("POST /api/periodic/p/pause", ACT, None),
    ("POST /api/periodic/p/resume", ACT, None),
    ("GET /api/operations", LOOK, None),
    ("POST /api/operations", ACT, {"action": "retry", "filter": {"status": "dead"}}),
    (f"GET /api/operations/{ID}", LOOK, None),
    (f"POST /api/operations/{ID}/cancel", ACT, None),
    ("GET /api/dead-letters", LOOK, None),
    ("GET /api/dead-letters/groups", LOOK, None),
    (f"GET /api/dead-letters/{ID}", LOOK, None),
    ("POST /api/dead-letters/discard", ACT, {"filter": {"fingerprint": "x"}, "reason": "of no use"}),
    ("GET /api/redrives", LOOK, None),
    ("POST /api/redrives", ACT, {"filter": {"fingerprint": "x"}, "dry_run": True}),
    (f"GET /api/redrives/{ID}", LOOK, None),
    (f"POST /api/redrives/{ID}/pause", ACT, None),
    (f"POST /api/redrives/{ID}/resume", ACT, None),
    (f"POST /api/redrives/{ID}/cancel", ACT, None),
    ("GET /api/incidents", LOOK, None),
    (f"GET /api/incidents/{ID}", LOOK, None),
    (f"POST /api/incidents/{ID}/acknowledge", ACT, {}),
    (f"POST /api/incidents/{ID}/silence", ACT, {"seconds": 60}),
    ("GET /api/audit", AUDIT, None),
    ("GET /api/keys/self", SELF, None),
    ("GET /api/health/database", SELF, None),
    ("GET /metrics", Permission.METRICS, None),
    ("GET /api/openapi.json", Permission.DESCRIBE, None),
    ("GET /dashboard/", LOOK, None),
    ("GET /dashboard/jobs", LOOK, None),
    (f"GET /dashboard/jobs/{ID}", LOOK, None),
    (f"POST /dashboard/jobs/{ID}/retry", ACT, None),
    (f"POST /dashboard/jobs/{ID}/cancel", ACT, None),
    ("GET /dashboard/dead-letters", LOOK, None),
    ("GET /dashboard/dead-letters/cause?fingerprint=x", LOOK, None),
    ("POST /dashboard/dead-letters/discard", ACT, None),
    (f"GET /dashboard/letters/{ID}", LOOK, None),
    ("GET /dashboard/redrives", LOOK, None),
    ("GET /dashboard/redrives/new?fingerprint=x", LOOK, None),
    ("POST /dashboard/redrives", ACT, None),
    (f"GET /dashboard/redrives/{ID}", LOOK, None),
    (f"POST /dashboard/redrives/{ID}/pause", ACT, None),
    ("GET /dashboard/incidents", LOOK, None),
    (f"GET /dashboard/incidents/{ID}", LOOK, None),
    (f"POST /dashboard/incidents/{ID}/acknowledge", ACT, None),
    (f"POST /dashboard/incidents/{ID}/silence", ACT, None),
    ("GET /dashboard/queues", LOOK, None),
    ("POST /dashboard/queues/pause", ACT, None),
    ("GET /dashboard/workers", LOOK, None),
    ("GET /dashboard/periodic", LOOK, None),
    ("POST /dashboard/periodic/pause", ACT, None),
    ("POST /dashboard/periodic/resume", ACT, None),
    ("POST /dashboard/periodic/run", ACT, None),
    ("GET /dashboard/limits", LOOK, None),
    ("POST /dashboard/limits/forget", ACT, None),
    ("GET /dashboard/operations", LOOK, None),
    ("GET /dashboard/operations/new?action=retry&status=dead", LOOK, None),
    ("POST /dashboard/operations", ACT, None),
    (f"GET /dashboard/operations/{ID}", LOOK, None),
    (f"POST /dashboard/operations/{ID}/cancel", ACT, None),
    ("GET /dashboard/audit", AUDIT, None),
    ("GET /dashboard/system", LOOK, None),
]


@pytest.fixture
async def wide(database: str) -> AsyncIterator[Api]:
    """The API for many requests of each role."""
    from holdfast.core.ratelimit import Policy

    async with api_over(database, rate_limit=Policy.parse("10000/minute", name="default")) as made:
        yield made


async def test_each_role_may_do_what_the_table_says_and_nothing_else(wide: Api, conn: Session) -> None:
    tokens = {role: await make_token(wide.services, role=role, valid_for=600) for role in Role}
    await wide.services.ring.step()
    wrong = []
    for role, token in tokens.items():
        async with wide.caller(ELSEWHERE, Authorization=f"Bearer {token}") as client:
            for action, permission, body in ACTIONS:
                method, path = action.split()
                answer = await client.request(method, path, json=body)
                if (answer.status_code == 403) == may(role, permission) or answer.status_code >= 500:
                    wrong.append(f"{role}: {action} answered {answer.status_code}")
    assert wrong == []
    asked_by = {each["role"] for each in rows(conn, "SELECT DISTINCT role FROM holdfast.audit_log")}
    assert asked_by == {role for role in Role if may(role, ACT)}


async def test_every_route_is_in_the_table(wide: Api) -> None:
    from starlette.routing import Mount

    def routes_of(app: object, prefix: str = "") -> set[str]:
        found = set()
        for route in app.routes:  # type: ignore[attr-defined]
            if isinstance(route, Mount):
                found |= routes_of(route.app, prefix + route.path)
        spec = app.openapi() if prefix == "" else None  # type: ignore[attr-defined]
        if spec:
            found |= {f"{verb.upper()} {path}" for path, verbs in spec["paths"].items() for verb in verbs}
        return found

    def shape(action: str) -> tuple[str, ...]:
        method, _, path = action.partition(" ")
        parts = path.partition("?")[0].split("/")
        return (
            method,
            *("*" if each in (ID, "q", "p", "database") or each.startswith("{") else each for each in parts),
        )

    documented = {shape(each) for each in routes_of(wide.app)} - {shape("GET /api/health")}
    assert documented - {shape(action) for action, _, _ in ACTIONS} == set()


@pytest.mark.parametrize("action", ["GET /dashboard/", "POST /dashboard/queues/pause", "GET /dashboard/events"])
async def test_a_stranger_is_led_to_sign_in_and_does_nothing(wide: Api, conn: Session, action: str) -> None:
    method, path = action.split()
    async with wide.caller(ELSEWHERE) as stranger:
        answer = await stranger.request(method, path, headers={"Accept": "text/html"})
    assert answer.status_code in (303, 401)
    assert "sign-in" in answer.headers.get("location", "sign-in")
    assert rows(conn, "SELECT * FROM holdfast.audit_log") == []


async def test_in_read_only_mode_nobody_changes_anything(database: str, conn: Session) -> None:
    id = enqueue(conn)
    async with api_over(database, read_only=True) as api:
        assert (await api.client.get("/api/jobs")).status_code == 200
        answer = await api.client.post(f"/api/jobs/{id}/cancel")
        assert (answer.status_code, "read-only mode" in answer.json()["detail"]) == (403, True)
        assert (await api.client.post("/api/jobs", json={"kind": "k"})).status_code == 403
        page = await api.client.get(f"/dashboard/jobs/{id}")
        assert "read-only mode" in page.text


@pytest.mark.parametrize(
    ("headers", "is_done"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://localhost:8484"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://localhost:9000"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://["}, False),
        ({}, False),
    ],
)
async def test_only_a_page_of_the_dashboard_itself_changes_anything(
    api: Api, conn: Session, headers: dict[str, str], is_done: bool
) -> None:
    id = enqueue(conn)
    answer = await api.client.post(f"/dashboard/jobs/{id}/cancel", headers=headers)
    assert answer.status_code in ((303,) if is_done else (303, 401, 403))
    status = rows(conn, "SELECT status FROM holdfast.jobs WHERE id = %s", id)[0]["status"]
    assert status == ("cancelled" if is_done else "queued")


async def test_what_a_job_carries_is_not_for_viewers(api: Api, conn: Session) -> None:
    id = enqueue(conn, args={"to": "ada@example.org"})
    seen = {}
    for role in (Role.VIEWER, Role.OPERATOR):
        token = await make_token(api.services, role=role)
        answer = await api.client.get(f"/api/jobs/{id}", headers={"Authorization": f"Bearer {token}"})
        seen[role] = answer.json()
    assert seen[Role.OPERATOR]["args"] == {"to": "ada@example.org"}
    assert (seen[Role.VIEWER]["args"], seen[Role.VIEWER]["hidden"]) == (None, ["args", "progress", "result"])


async def test_a_session_ends_with_the_key_that_it_was_made_with(api: Api) -> None:
    services = api.services
    token = await make_token(services)
    key = await services.ring.authenticate(token)
    assert key is not None
    text = await services.sessions.begin(Role.ADMIN, "test", key.id)
    assert await services.sessions.find(text) is not None
    assert await services.sessions.find(text[:-2] + "xx") is None
    from holdfast.postgres.keys import revoke_api_key
    from holdfast.services.sessions import Sessions

    await services.ledger.call(revoke_api_key(key.id))
    assert await Sessions(services.ledger).find(text) is None


def test_every_role_is_in_the_table_of_permissions() -> None:
    assert set(MAY) == set(Role)


async def test_pages_say_that_nothing_may_be_run_that_is_not_from_here(api: Api) -> None:
    answer = await api.client.get("/dashboard/")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert " style=" not in answer.text
    assert "<script>" not in answer.text
