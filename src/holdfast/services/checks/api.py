"""Does the API answer, does it say that all is well, and does it keep to itself what strangers should not know?"""

import json
from typing import Any

import httpx

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.dsn import is_rest, parse
from holdfast.postgres.rest import place_of
from holdfast.services.checks.deployment import Deployment

#: A request that went through a proxy counts as a stranger's, also from this machine.
_STRANGER = {"Via": "1.1 holdfast-doctor"}
_HEALTH = "health endpoint"


async def check_api(deployment: Deployment) -> Finding:
    """Whether it answers at all."""
    code = f"Holdfast {deployment.here.version}"
    try:
        answer = await deployment.http.get("/livez")
    except httpx.HTTPError as error:
        fix = "holdfast up APP; or tell where it answers: --url, HOLDFAST_URL"
        reason = ": ".join(filter(None, (type(error).__name__, str(error))))
        found = f"{deployment.http.base_url} does not answer: {reason}"
        return Finding("api.answers", "API", Verdict.FAIL, found, code, fix, unreachable=True)
    milliseconds = answer.elapsed.total_seconds() * 1000
    if answer.status_code != 200 or _json(answer) != {"status": "pass"}:
        fix = "give the address of Holdfast's API: --url, HOLDFAST_URL"
        found = f"{deployment.http.base_url} is something else: /livez answers {answer.status_code}"
        return Finding("api.answers", "API", Verdict.FAIL, found, code, fix, unreachable=True)
    return Finding(
        "api.answers", "API", Verdict.PASS, f"{deployment.http.base_url} answers in {milliseconds:.0f} ms", code
    )


async def check_health(deployment: Deployment) -> Finding:
    """What `/api/health` says."""
    code = "/api/health, from a snapshot"
    answer = await deployment.http.get("/api/health", headers=deployment.authorisation)
    body = _json(answer)
    status = body.get("status")
    if status not in ("pass", "warn", "fail"):
        return Finding("health.status", _HEALTH, Verdict.FAIL, f"/api/health answers {answer.status_code}", code)
    if status == "pass":
        return Finding("health.status", _HEALTH, Verdict.PASS, f"{answer.status_code}, pass", code)
    output = body.get("output") or "its reasons need a key"
    fix = f"curl {deployment.http.base_url}/api/health -H 'Authorization: Bearer KEY' tells each check"
    if not body.get("output"):
        fix = "set HOLDFAST_API_KEY to a key of this API (holdfast keys create NAME), and look again"
    return Finding("health.status", _HEALTH, Verdict(status), f"{answer.status_code}, {status}: {output}", code, fix)


async def check_privacy(deployment: Deployment) -> Finding:
    """Whether a caller without a key learns the status only."""
    answer = await deployment.http.get("/api/health", headers=_STRANGER)
    extra = sorted(set(_json(answer)) - {"status"})
    said = f"{answer.text} {answer.headers}"
    extra += [what for what, secret in _secrets(deployment) if secret in said]
    code = "a caller without a key learns the status only"
    if extra:
        fix = "this is a defect of Holdfast: keep the address from strangers, and report it"
        return Finding("health.private", _HEALTH, Verdict.FAIL, f"strangers learn {', '.join(extra)}", code, fix)
    return Finding("health.private", _HEALTH, Verdict.PASS, "strangers learn the status only", code)


def _secrets(deployment: Deployment) -> list[tuple[str, str]]:
    """What nobody should read in an answer, and what it is; short names could be in it by chance."""
    parts = _parts(deployment.dsn)
    found = [(f"the database's {name}", parts.get(name, "")) for name in ("host", "password", "user", "dbname")]
    found += [("a queue's address", queue.url) for queue in deployment.queues]
    return [(what, secret) for what, secret in found if len(secret) > 5 and secret not in str(deployment.http.base_url)]


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except json.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _parts(dsn: str) -> dict[str, str]:
    """What of the ledger's address must not be told; over HTTPS that is its key and its host."""
    if not is_rest(dsn):
        return parse(dsn)
    place = place_of(dsn)
    return {"host": place.url.partition("://")[2], "password": place.key}
