"""Dead letters, redrives and incidents over HTTP."""

import json

import pytest

from holdfast.app import new_id
from holdfast.core.api_keys import Role
from tests.postgres.test_redrives import dead
from tests.support import Session, enqueue, row, rows
from tests.web.support import Api, make_token

CAUSE = {"fingerprint": "ValueError:1"}


async def test_dead_letters_are_seen_by_cause_and_one_by_one(api: Api, conn: Session) -> None:
    ids = dead(conn, 3)
    dead(conn, 1, fingerprint="KeyError:1")
    groups = (await api.client.get("/api/dead-letters/groups")).json()["groups"]
    assert [(each["fingerprint"], each["letters"]) for each in groups] == [("ValueError:1", 3), ("KeyError:1", 1)]
    letters = (await api.client.get("/api/dead-letters", params=CAUSE)).json()["letters"]
    assert {each["job_id"] for each in letters} == {str(id) for id in ids}
    letter = (await api.client.get(f"/api/dead-letters/{letters[0]['id']}")).json()
    assert (letter["job_status"], len(letter["lives"])) == ("dead", 1)


async def test_what_a_message_carries_is_not_for_viewers(api: Api, conn: Session) -> None:
    message = {
        "id": str(new_id()),
        "key": "m-1",
        "fingerprint": "f",
        "body": '{"card": 4242}',
        "attributes": {"customer": "ada"},
    }
    conn.execute("SELECT holdfast.note_dead_letters('dlq', %s, false)", (json.dumps([message]),))
    id = row(conn, "SELECT id FROM holdfast.dead_letters")["id"]
    seen = {}
    for role in (Role.VIEWER, Role.OPERATOR):
        token = await make_token(api.services, role=role)
        answer = await api.client.get(f"/api/dead-letters/{id}", headers={"Authorization": f"Bearer {token}"})
        seen[role] = answer.json()
    assert seen[Role.OPERATOR]["body"] == '{"card": 4242}'
    assert (seen[Role.VIEWER]["body"], seen[Role.VIEWER]["attributes"]) == (None, None)
    assert seen[Role.VIEWER]["hidden"] == ["body", "attributes", "original"]


async def test_a_redrive_is_tried_begun_once_and_ended(api: Api, conn: Session) -> None:
    dead(conn, 3)
    asked = {"id": str(new_id()), "filter": CAUSE, "note": "mended", "rate": 1}
    tried = await api.client.post("/api/redrives", json={**asked, "dry_run": True})
    assert (tried.status_code, tried.json()["groups"][0]["letters"]) == (200, 3)
    assert rows(conn, "SELECT 1 FROM holdfast.redrives") == []
    first, begun = [await api.client.post("/api/redrives", json=asked) for _ in range(2)]
    assert first.json()["frozen"] == begun.json()["frozen"] == {"total": 3, "quarantined": 0, "busy": 0}
    assert begun.status_code == 202
    place = begun.headers["location"]
    assert len((await api.client.get("/api/redrives")).json()["redrives"]) == 1
    assert (await api.client.post(f"{place}/pause")).json()["status"] == "paused"
    assert (await api.client.post(f"{place}/resume")).json()["status"] == "running"
    assert (await api.client.post(f"{place}/cancel")).json()["remaining"] == 3
    late = await api.client.post(f"{place}/resume")
    assert (late.status_code, late.json()["redrive_status"]) == (409, "cancelled")
    actions = [each["action"] for each in rows(conn, "SELECT action FROM holdfast.audit_log ORDER BY id")]
    assert actions == [f"redrive.{each}" for each in ("begin", "begin", "pause", "resume", "cancel", "resume")]


async def test_letters_are_discarded_with_a_reason(api: Api, conn: Session) -> None:
    dead(conn, 2)
    answer = await api.client.post("/api/dead-letters/discard", json={"filter": {"all": True}, "reason": "refunded"})
    assert (answer.status_code, answer.json()) == (200, {"discarded": 2})
    assert (await api.client.get("/api/dead-letters")).json() == {"letters": []}


@pytest.mark.parametrize("wanted", [{}, {"all": False}, {"all": True, **CAUSE}])
async def test_every_dead_letter_is_meant_only_if_that_is_said_alone(api: Api, wanted: dict[str, object]) -> None:
    for path in ("redrives", "dead-letters/discard"):
        answer = await api.client.post(f"/api/{path}", json={"filter": wanted, "reason": "x"})
        assert answer.status_code == 422
        assert '{"all": true}' in answer.text.replace("\\", "")


@pytest.mark.parametrize("wanted", [{"all": 1}, {"older": True}, {"older": "60"}, {"newer": 60, "fingerprint": 5}])
async def test_nothing_is_taken_for_something_else_that_it_is_not(
    api: Api, conn: Session, wanted: dict[str, object]
) -> None:
    dead(conn, 1)
    answer = await api.client.post("/api/dead-letters/discard", json={"filter": wanted, "reason": "x"})
    assert answer.status_code == 422
    assert len((await api.client.get("/api/dead-letters")).json()["letters"]) == 1


async def test_an_incident_is_taken_on_and_silenced(api: Api, conn: Session) -> None:
    id = new_id()
    conn.execute(
        "INSERT INTO holdfast.incidents (id, kind, key, title, opened_at, changed_at)"
        " VALUES (%s, 'queue', 'mail', 'mail waits', holdfast.clock(), holdfast.clock())",
        (id,),
    )
    (found,) = (await api.client.get("/api/incidents")).json()["incidents"]
    assert (found["id"], found["state"]) == (str(id), "open")
    taken = await api.client.post(f"/api/incidents/{id}/acknowledge", json={"note": "on it"})
    assert (taken.json()["state"], taken.json()["note"]) == ("acknowledged", "on it")
    back = await api.client.post(f"/api/incidents/{id}/acknowledge", json={"acknowledged": False})
    assert back.json()["state"] == "open"
    silenced = await api.client.post(f"/api/incidents/{id}/silence", json={"seconds": 60})
    assert silenced.json()["state"] == "silenced"
    assert (await api.client.get("/api/incidents", params={"state": ["open"]})).json() == {"incidents": []}
    conn.execute("UPDATE holdfast.incidents SET status = 'resolved', resolved_at = holdfast.clock()")
    over = await api.client.post(f"/api/incidents/{id}/silence", json={"seconds": 60})
    assert (over.status_code, over.json()["incident_state"]) == (409, "resolved")


async def test_jobs_are_found_by_a_part_of_their_arguments(api: Api, conn: Session) -> None:
    id = enqueue(conn, args={"user": {"plan": "pro", "id": 7}})
    enqueue(conn, args={"user": {"plan": "free", "id": 8}})
    found = await api.client.get("/api/jobs", params={"args": '{"user": {"plan": "pro"}}'})
    assert [each["id"] for each in found.json()["jobs"]] == [str(id)]
    for wrong in ("[1]", "plan=pro", '{"a": "\\u0000"}', "[" * 3000):
        answer = await api.client.get("/api/jobs", params={"args": wrong})
        assert (answer.status_code, "a JSON object" in answer.json()["detail"]) == (422, True)
