"""Pages that follow what happens, and say whether they do."""

import http.client
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.browser.shop import Shop
from tests.browser.site import Site, Watched, serving

pytestmark = pytest.mark.browser


def test_a_page_shows_what_happens_without_being_asked(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit("jobs?kind=mail.send&status=queued").page
    expect(page.get_by_text("No job matches")).to_be_visible()
    shop.enqueue("mail.send", {"to": "live@example.org"})
    expect(page.locator("main tbody tr")).to_have_count(1, timeout=15_000)
    shop.claim("mail.send")
    expect(page.get_by_text("No job matches")).to_be_visible(timeout=15_000)


def test_a_page_that_was_paused_stays_as_it_is(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit("jobs?kind=payment.capture&status=queued").page
    page.get_by_role("button", name="Pause live updates").click()
    expect(page.locator("#pulse-text")).to_have_text(re.compile("paused, updated .* ago"))
    shop.enqueue("payment.capture", {"order": 1})
    page.wait_for_function("document.querySelector('#pulse').dataset.state === 'paused'")
    expect(page.get_by_text("No job matches")).to_be_visible()
    page.get_by_role("button", name="Pause live updates").click()
    expect(page.locator("main tbody tr")).to_have_count(1, timeout=15_000)
    shop.conn.execute("DELETE FROM holdfast.jobs WHERE kind = 'payment.capture' AND status = 'queued'")


def test_a_page_says_that_it_is_disconnected_and_comes_back(visit: Callable[..., Watched], shop: Shop) -> None:
    watched = visit("queues")
    page = watched.page
    page.context.set_offline(True)
    # Again and again: an answer that was under way may still arrive, and that is a sign of life.
    page.evaluate("window.failing = setInterval(() => document.dispatchEvent(new CustomEvent('htmx:error')), 100)")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "disconnected")
    page.evaluate("clearInterval(window.failing)")
    expect(page.locator("#pulse-said")).to_have_text("disconnected")
    page.context.set_offline(False)
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live", timeout=30_000)
    watched.complaints[:] = [each for each in watched.complaints if "DISCONNECTED" not in each and "fetch" not in each]


def test_where_there_is_no_stream_a_page_asks_now_and_then(
    visit: Callable[..., Watched], shop: Shop, site: Site
) -> None:
    watched = visit("queues")
    page = watched.page
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.abort()

    page.route("**/events", refuse)
    page.goto(f"{site.url}jobs?kind=image.resize&status=queued")
    rows = page.locator("main tbody tr")
    before = rows.count()
    shop.enqueue("image.resize", {"image": "s3://shop/poll.png"})
    expect(rows).to_have_count(before + 1, timeout=20_000)
    assert asked
    watched.complaints[:] = [each for each in watched.complaints if "ERR_FAILED" not in each]


def test_what_somebody_types_is_left_alone(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit("jobs?kind=mail.send&status=queued").page
    field = page.get_by_label("Error contains")
    field.fill("half a wo")
    shop.enqueue("mail.send", {"to": "typing@example.org"})
    expect(page.locator("#pulse-text")).to_have_text(re.compile("updated [3-9] s ago"), timeout=20_000)
    expect(field).to_have_value("half a wo")
    expect(field).to_be_focused()
    shop.claim("mail.send")


def test_the_theme_is_kept(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit("queues", color_scheme="light").page
    page.get_by_role("button", name="Dark or light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_an_open_stream_ends_at_once_when_the_process_is_told_to_end(site: Site, shop: Shop) -> None:
    with serving(shop.dsn) as other:
        port = int(other.url.split(":")[2].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/dashboard/events")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.readline().startswith(b"retry:")
        other.loop.call_soon_threadsafe(other.services.changes.end)
        answer.read()  # returns, since the stream ends; else it would time out
        connection.close()
