"""Whatever comes back, from Slack, from Supabase's Management API, in a bell: an outcome, a clear error, or nothing.

Servers of others, and what stands between us and them, answer with anything: pages in HTML, JSON of another shape, half
an answer, a status that nobody has heard of. None of it may end the one who asked, nor be taken for success.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from holdfast.core.bell import read_bell
from holdfast.errors import HoldfastError
from holdfast.notify.channel import Again, Broken, Delivered
from holdfast.notify.slack import SlackChannel
from holdfast.postgres.management import ManagementApi, Pooler
from holdfast.postgres.routes import StatementError

#: Each example is a request or three; `./test --full` sends a hundred times as many.
FEW, MANY = settings(max_examples=20), settings(max_examples=2000)

texts = st.text(max_size=200)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=15,
)
bodies = (
    st.binary(max_size=300)
    | texts.map(lambda text: text.encode("utf-8", "replace"))
    | values.map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"", b"ok", b"<html>", b"[]", b"{}", b"null", b'[{"db_port": "x"}]', b'{"message": {}}'])
)
statuses = st.sampled_from([200, 201, 204, 301, 302, 400, 401, 403, 404, 410, 413, 418, 429, 500, 502, 503, 504, 599])
words = st.sampled_from(
    ["", "0", "1", "-1", "1.5", "1e400", "nan", "\u0661", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "9" * 400]
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(["application/json", "text/html", "application/json; charset=utf-7", ";"]),
        "Retry-After": words.filter(str.isascii),
        "Content-Encoding": st.sampled_from(["gzip", "br", "identity", "what"]),
        "Location": st.sampled_from(["/", "http://127.0.0.1:1/", "::"]),
    },
)


class Anything:
    """Answers as it was told last."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"", dict[str, str]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def do_GET(self) -> None:
                with contextlib.suppress(OSError):
                    self.send_response(outer.status)
                    for name, value in outer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(outer.body)))
                    self.end_headers()
                    self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def answers(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers = status, b"" if status in (204, 304) else body, headers

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def anything() -> Iterator[Anything]:
    made = Anything()
    yield made
    made.close()


def slack_is_understood(anything: Anything, status: int, body: bytes, headers: dict[str, str]) -> None:
    anything.answers(status, body, headers)

    async def send() -> object:
        channel = SlackChannel(SecretStr(f"{anything.address}/services/T/B/secret"))
        try:
            return await channel.send("first", {"title": "dead letters"})
        finally:
            await channel.close()

    outcome = asyncio.run(send())
    assert isinstance(outcome, Delivered | Again | Broken)
    if isinstance(outcome, Delivered):
        assert 200 <= status < 300
    assert "secret" not in repr(outcome)


def the_management_api_is_understood(anything: Anything, status: int, body: bytes, headers: dict[str, str]) -> None:
    anything.answers(status, body, headers)
    waited: list[float] = []
    token = "sbp_" + "0" * 40
    api = ManagementApi("abcdefghijklmnopqrst", token, address=anything.address, pause=waited.append)
    try:
        for ask in (lambda: api.rows("SELECT 1"), api.pooler, lambda: api.run("SELECT 1")):
            try:
                found: object = ask()
            except (HoldfastError, StatementError) as error:
                found = str(error)
            if isinstance(found, str):
                assert token not in found
                assert len(found) < 1000
            else:
                assert found is None or isinstance(found, list | Pooler)
                assert 200 <= status < 300
    finally:
        api.close()
    assert all(0 < each <= 60 for each in waited)


@pytest.mark.parametrize("check", [slack_is_understood, the_management_api_is_understood])
@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
def test_whatever_they_answer_is_an_outcome_or_an_error_that_says_so(
    anything: Anything, check: Callable[..., None], cases: settings
) -> None:
    cases(given(st.just(anything), statuses, bodies, headers)(check))()


@settings(max_examples=500)
@given(
    bodies.map(lambda body: body.decode("utf-8", "replace"))
    | values.map(lambda value: json.dumps({"holdfast": "bell", "queue": value}))
)
def test_whatever_lies_in_a_queue_is_a_bell_or_none(body: str) -> None:
    queue = read_bell(body)
    assert queue is None or queue
