"""Each page in a real browser: what it shows, that it fits, and that nobody is kept out."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Request, expect

from holdfast.app import new_id
from tests.browser.shop import Shop
from tests.browser.site import Site, Watched, serving
from tests.support import database_copy, enqueue, open_session

pytestmark = pytest.mark.browser

PAGES = {
    "home": "",
    "week": "?range=7d",
    "jobs": "jobs",
    "dead jobs": "jobs?status=dead",
    "no job": "jobs?kind=nothing",
    "job": "jobs/{dead}",
    "running job": "jobs/{running}",
    "dead letters": "dead-letters",
    "a cause": "dead-letters/cause?fingerprint=PaymentDeclined:70ab",
    "incidents": "incidents",
    "an incident": "incidents/{incident}",
    "a letter": "letters/{letter}",
    "redrives": "redrives",
    "redrive preview": "redrives/new?fingerprint=PaymentDeclined:70ab",
    "queues": "queues",
    "workers": "workers",
    "a worker": "workers?id={worker}",
    "periodic": "periodic",
    "limits": "limits",
    "operations": "operations",
    "preview": "operations/new?action=retry&status=dead",
    "audit": "audit",
    "system": "system",
    "nothing": "jobs/00000000-0000-0000-0000-000000000000",
}
MISSING = {"nothing"}


ACROSS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FAULTS = """async () => {
    const found = await axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]});
    return found.violations.map((each) => `${each.id}: ${each.nodes[0].html.slice(0, 200)}`);
}"""


def address(name: str, shop: Shop) -> str:
    return PAGES[name].format(worker=shop.workers[1], **shop.jobs)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_narrow_and_dark_and_keeps_nobody_out(
    visit: Callable[..., Watched], shop: Shop, axe: str, name: str
) -> None:
    watched = visit(address(name, shop))
    page = watched.page
    expect(page.locator("main h1")).to_be_visible()
    assert page.evaluate(ACROSS) <= 0, "it scrolls sideways"
    page.evaluate(axe)
    if name in ("home", "job", "dead jobs"):
        assert page.evaluate(FAULTS) == []
    page.set_viewport_size({"width": 320, "height": 900})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate(ACROSS) <= 0, "it scrolls sideways where it is narrow"
    assert page.evaluate(FAULTS) == []
    if name in MISSING:
        watched.complaints[:] = [each for each in watched.complaints if "404" not in each]


def test_home_says_what_is_wrong_and_since_when(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit().page
    expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile("It works, and needs a look|Something is broken")
    )
    expect(page.get_by_text("PaymentDeclined")).to_be_visible()
    expect(page.get_by_role("link", name="images", exact=True)).to_be_visible()


def test_queues_show_the_tables_of_other_programs_beside_our_own(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit("queues").page
    expect(page.get_by_role("heading", name="Watched tables")).to_be_visible()
    stuck = page.get_by_role("row", name=re.compile("public.exports"))
    expect(stuck).to_contain_text("requeue after 10 min")
    expect(stuck).to_contain_text("1,204")
    expect(page.get_by_text("there is no table app.imports")).to_be_visible()


def test_without_scripts_everything_can_be_read_and_links_work(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit("jobs?status=dead", java_script_enabled=False).page
    page.get_by_role("link", name="payment.capture").first.click()
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(page.get_by_text("insufficient funds").first).to_be_visible()
    expect(page.locator(".needs-script").first).to_be_hidden()


def test_a_filter_is_in_the_address_and_finds_by_a_path_of_the_arguments(
    visit: Callable[..., Watched], shop: Shop
) -> None:
    page = visit("jobs").page
    page.get_by_label("Arguments").fill("customer.plan=pro order=7411")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile(r"args=customer\.plan%3Dpro\+order%3D7411"))
    expect(page.locator("main tbody tr")).to_have_count(1)


def test_what_sounds_like_a_secret_is_not_shown(visit: Callable[..., Watched], shop: Shop) -> None:
    page = visit(f"jobs/{shop.jobs['dead']}").page
    expect(page.get_by_text('"card_token": "[redacted]"')).to_be_visible()
    assert "tok_4242" not in page.content()


def test_a_typed_id_leads_to_its_job(visit: Callable[..., Watched], shop: Shop, site: Site) -> None:
    page = visit("jobs").page
    page.get_by_label("Or an id").fill(str(shop.jobs["running"]))
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(f"{site.url}jobs/{shop.jobs['running']}")


def test_below_any_prefix_links_forms_and_the_stream_work(
    visit: Callable[..., Watched], bare: str, template: str, shop: Shop
) -> None:
    with database_copy(bare, template) as dsn:
        conn = open_session(dsn)
        id = enqueue(conn, id=new_id(), kind="mail.send", queue="mail")
        with serving(dsn, prefix="/ops/holdfast") as below:
            page = visit("", on=below).page
            page.get_by_role("link", name="Jobs", exact=True).click()
            page.get_by_role("link", name="mail.send").click()
            expect(page).to_have_url(f"{below.url}jobs/{id}")
            page.get_by_role("button", name="Cancel").click()
            page.locator("#confirm-yes").click()
            expect(page.locator(".notice")).to_contain_text("Cancelled.")
            expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
            page.goto(below.url.removesuffix("/dashboard/") + "/")
            expect(page).to_have_url(below.url)
        conn.close()


def test_what_goes_over_the_wire_is_small(browser: Browser, site: Site) -> None:
    context = browser.new_context()
    page = context.new_page()
    sent: list[int] = []
    page.on("requestfinished", lambda request: sent.append(_size(request)))
    page.goto(site.url, wait_until="load")
    context.close()
    assert len(sent) >= 5
    assert sum(sent) < 60_000


def _size(request: Request) -> int:
    sizes = request.sizes()
    return sizes["responseBodySize"] + sizes["responseHeadersSize"]


def test_a_kind_breaks_between_its_parts_and_rows_say_what_their_numbers_are_where_it_is_narrow(
    visit: Callable[..., Watched], shop: Shop
) -> None:
    id = enqueue(shop.conn, id=new_id(), kind="holdfast.demo.digest", queue="demo")
    page = visit("jobs?kind=holdfast.demo.digest", width=900).page
    lines_of_each_part = """each => [...each.childNodes].filter(part => part.nodeType === Node.TEXT_NODE).map(part => {
        const range = document.createRange();
        range.selectNodeContents(part);
        return range.getClientRects().length;
    })"""
    name = page.get_by_role("link", name="holdfast.demo.digest")
    for width in (1280, 900, 320):
        page.set_viewport_size({"width": width, "height": 900})
        assert name.evaluate(lines_of_each_part) == [1, 1, 1]
    page.goto(page.url.partition("jobs?")[0] + "periodic")
    label = "each => getComputedStyle(each, '::before').content"
    assert page.locator("td[data-label='Last tick']").first.evaluate(label) == '"Last tick "'
    assert page.get_by_role("rowheader", name="daily report").evaluate("each => each.offsetHeight") < 40
    shop.conn.execute("DELETE FROM holdfast.jobs WHERE id = %s", (id,))
