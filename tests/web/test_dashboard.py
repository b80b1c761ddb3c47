"""The dashboard without a browser: what it vendors, what it caches, how it refuses, what a filter may say."""

import hashlib
from importlib.resources import files

import httpx
import pytest

from holdfast.core.redaction import MASK, redact
from holdfast.web.dashboard.assets import assets
from holdfast.web.dashboard.filters import parse_args
from holdfast.web.problems import Problem
from tests.support import Session, enqueue
from tests.web.support import Api

STATIC = files("holdfast.web.dashboard") / "static"


def test_what_is_not_ours_is_what_it_was_when_it_was_taken() -> None:
    sums = (STATIC / "SHA256SUMS").read_text().split()
    assert sums[1::2] == ["htmx-4.0.1.min.js", "htmx-LICENSE.txt"]
    for expected, name in zip(sums[::2], sums[1::2], strict=True):
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == expected


async def test_files_are_kept_for_ever_under_a_name_with_their_hash(api: Api) -> None:
    page = (await api.client.get("/dashboard/")).text
    for asset in assets().values():
        assert f"static/{asset.hashed}" in page
        answer = await api.client.get(f"/dashboard/static/{asset.hashed}")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.content == asset.content
    assert (await api.client.get("/dashboard/static/style.css")).status_code == 404


async def test_pages_are_kept_nowhere(api: Api) -> None:
    assert (await api.client.get("/dashboard/jobs")).headers["cache-control"] == "no-store"


async def test_the_root_leads_to_the_dashboard_wherever_it_is(api: Api) -> None:
    for path in ("/", "/dashboard"):
        answer = await api.client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "dashboard/")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("jobs?status=gone", 400, "there are queued, running, succeeded, dead, cancelled"),
        ("jobs?since=3y", 400, "there are 1h, 24h, 7d"),
        ("jobs?args=nonsense", 400, "write for example user.plan=pro"),
        ("jobs?args={", 400, "is no JSON"),
        ("jobs/not-an-id", 422, "UUID"),
        ("operations/new?action=delete&status=dead", 400, "there are retry and cancel"),
        ("operations/new?action=retry&status=running", 400, "dead or cancelled"),
        ("nothing", 404, "nothing at this address"),
    ],
)
async def test_a_refusal_is_a_page_that_says_what_to_do(api: Api, path: str, status: int, words: str) -> None:
    answer = await api.client.get(f"/dashboard/{path}")
    assert (answer.status_code, words in answer.text) == (status, True)
    assert answer.headers["content-type"].startswith("text/html")


async def test_what_a_job_says_is_shown_as_text(api: Api, conn: Session) -> None:
    id = enqueue(conn, kind="<script>alert(1)</script>", args={"a": "<img src=x onerror=alert(1)>"})
    for path in ("jobs", f"jobs/{id}"):
        page = (await api.client.get(f"/dashboard/{path}")).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page


async def test_a_link_leads_nowhere_else_after_it_signed_in(api: Api) -> None:
    from holdfast.core.api_keys import Role

    for wanted in ("https://evil.example/", "//evil.example/", "\\\\evil.example", "javascript:alert(1)"):
        code = await api.services.sessions.make_link(Role.ADMIN, "test")
        answer = await api.client.get("/dashboard/sign-in", params={"code": code, "next": wanted})
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
    code = await api.services.sessions.make_link(Role.ADMIN, "test")
    answer = await api.client.get("/dashboard/sign-in", params={"code": code, "next": "jobs?status=dead"})
    assert answer.headers["location"] == "./jobs?status=dead"


async def test_what_only_looks_ahead_does_not_use_a_link_up(api: Api) -> None:
    from holdfast.core.api_keys import Role

    code = await api.services.sessions.make_link(Role.ADMIN, "test")
    ahead = await api.client.get("/dashboard/sign-in", params={"code": code}, headers={"Sec-Purpose": "prefetch"})
    assert "set-cookie" not in ahead.headers
    answer: httpx.Response = await api.client.get("/dashboard/sign-in", params={"code": code})
    assert "HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]


def test_a_path_of_the_arguments_is_read() -> None:
    assert parse_args('a.b=1 a.c="x y", d:true') == {"a": {"b": 1, "c": "x y"}, "d": True}
    assert parse_args("  ") is None
    with pytest.raises(Problem, match="asks twice for 'a'"):
        parse_args("a=1 a.b=2")


def test_secrets_are_masked_wherever_they_stand() -> None:
    assert redact([{"userPassword": "x", "deep": {"x-api-key": ["k"], "n": 1}}]) == [
        {"userPassword": MASK, "deep": {"x-api-key": MASK, "n": 1}}
    ]
