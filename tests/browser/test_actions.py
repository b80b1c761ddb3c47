"""Each action in a real browser: asked about where it cannot be taken back, done, told, and audited."""

import re
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from holdfast.core.api_keys import Role
from tests.browser.shop import Shop, status_of
from tests.browser.site import Site, Watched, serving
from tests.support import database_copy, open_session, row

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def own(bare: str, template: str) -> Iterator[Shop]:
    """A shop that these tests may change."""
    with database_copy(bare, template) as dsn:
        conn = open_session(dsn)
        made = Shop(conn).fill()
        made.dsn = dsn
        yield made
        conn.close()


@pytest.fixture(scope="module")
def here(own: Shop) -> Iterator[Site]:
    with serving(own.dsn) as running:
        yield running


def sure(page: Page) -> None:
    """Answer the question with yes."""
    expect(page.locator("#confirm")).to_be_visible()
    page.locator("#confirm-yes").click()


def told(page: Page, text: str) -> None:
    expect(page.locator(".notice")).to_contain_text(text)


def last_change(shop: Shop) -> tuple[str, str]:
    found = row(shop.conn, "SELECT action, target FROM holdfast.audit_log ORDER BY id DESC LIMIT 1")
    return found["action"], found["target"]


def test_a_dead_job_is_retried_once_somebody_is_sure(visit: Callable[..., Watched], own: Shop, here: Site) -> None:
    id = own.jobs["dead"]
    page = visit(f"jobs/{id}", on=here).page
    page.get_by_role("button", name="Retry").click()
    page.locator("#confirm").get_by_role("button", name="Leave it").click()
    assert status_of(own.conn, id) == "dead"
    page.get_by_role("button", name="Retry").click()
    sure(page)
    told(page, "Queued again.")
    expect(page.locator(".page-head .status")).to_have_text("queued")
    assert status_of(own.conn, id) == "queued"
    assert last_change(own) == ("job.retry", str(id))
    expect(page.get_by_text("job.retry by this machine")).to_be_visible()


def test_a_queued_job_is_cancelled_and_a_running_one_is_asked_to_stop(
    visit: Callable[..., Watched], own: Shop, here: Site
) -> None:
    page = visit(f"jobs/{own.jobs['later']}", on=here).page
    page.get_by_role("button", name="Cancel").click()
    sure(page)
    told(page, "Cancelled.")
    page.goto(f"{here.url}jobs/{own.jobs['running']}")
    page.get_by_role("button", name="Cancel").click()
    sure(page)
    told(page, "its worker is asked to stop it")
    assert row(own.conn, "SELECT cancel_requested_at FROM holdfast.jobs WHERE id = %s", own.jobs["running"])[
        "cancel_requested_at"
    ]
    button = page.get_by_role("button", name="Cancel")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(re.compile("asked to stop already"))


def test_a_queue_is_paused_and_resumed(visit: Callable[..., Watched], own: Shop, here: Site) -> None:
    page = visit("queues", on=here).page
    line = page.locator("tr", has=page.get_by_role("link", name="images", exact=True))
    line.get_by_role("button", name="Pause").click()
    sure(page)
    told(page, "images is paused")
    assert row(own.conn, "SELECT paused FROM holdfast.queues WHERE name = 'images'")["paused"]
    line.get_by_role("button", name="Resume").click()
    told(page, "images goes on")
    assert last_change(own) == ("queue.resume", "images")


def test_a_schedule_is_resumed_paused_and_run_now(visit: Callable[..., Watched], own: Shop, here: Site) -> None:
    page = visit("periodic", on=here).page
    line = page.locator("tr", has=page.get_by_role("rowheader", name="clean carts"))
    line.get_by_role("button", name="Resume").click()
    told(page, "goes on with its next tick")
    line.get_by_role("button", name="Pause").click()
    sure(page)
    told(page, "is paused")
    line.get_by_role("button", name="Run now").click()
    sure(page)
    told(page, "as a tick of clean carts would be")
    expect(page).to_have_url(re.compile("/jobs/[0-9a-f-]{36}$"))


def test_all_that_match_are_retried_with_a_preview_and_progress(
    visit: Callable[..., Watched], own: Shop, here: Site
) -> None:
    page = visit("jobs?status=dead&kind=mail.send", on=here).page
    page.get_by_role("link", name="Retry all that match…").click()
    expect(page.locator(".big")).to_have_text("2 jobs")
    page.get_by_role("button", name="Retry 2 jobs").click()
    told(page, "It goes on here")
    expect(page.get_by_text("2 queued again")).to_be_visible(timeout=20_000)
    expect(page.locator(".page-head .status")).to_have_text("done", timeout=20_000)
    found = row(own.conn, "SELECT count(*) AS n FROM holdfast.jobs WHERE status = 'dead' AND kind = 'mail.send'")
    assert found["n"] == 0
    page.goto(f"{here.url}operations")
    expect(page.locator("main tbody tr")).to_have_count(1)


def test_dead_letters_of_a_cause_are_redriven(visit: Callable[..., Watched], own: Shop, here: Site) -> None:
    page = visit("dead-letters", on=here).page
    page.get_by_role("link", name="PaymentDeclined").click()
    page.get_by_role("link", name="Redrive all…").click()
    page.get_by_label("A second, at most").fill("50")
    page.get_by_role("button", name="Redrive 6").click()
    told(page, "to be sent")
    id = UUID(page.url.rpartition("/")[2])
    page.get_by_role("button", name="Pause", exact=True).click()
    told(page, "Paused")
    page.get_by_role("button", name="Resume").click()
    told(page, "It goes on")
    page.get_by_role("button", name="Cancel").click()
    sure(page)
    told(page, "Cancelled")
    found = row(own.conn, "SELECT status, rate FROM holdfast.redrives WHERE id = %s", id)
    assert (found["status"], found["rate"]) == ("cancelled", 50.0)


def test_an_incident_is_taken_on_and_silenced(visit: Callable[..., Watched], own: Shop, here: Site) -> None:
    page = visit("incidents", on=here).page
    page.get_by_role("link", name=re.compile("went dead on payments")).click()
    page.get_by_label("Note").fill("the bank is down")
    page.get_by_role("button", name="Take it on").click()
    told(page, "It is yours")
    expect(page.get_by_text("the bank is down")).to_be_visible()
    page.get_by_label("Tell nothing of it").select_option("8h")
    page.get_by_role("button", name="Silence").click()
    told(page, "Nothing is told of it for 8h")
    assert last_change(own) == ("incident.silence", str(own.jobs["incident"]))


def test_dead_letters_are_discarded_with_a_reason(visit: Callable[..., Watched], own: Shop, here: Site) -> None:
    page = visit("dead-letters/cause?fingerprint=SMTPServerDisconnected:19cf", on=here).page
    page.get_by_label("Why").fill("mail of last year")
    page.get_by_role("button", name="Discard all").click()
    sure(page)
    told(page, "discarded")
    assert last_change(own)[0] == "letters.discard"


def test_the_audit_page_says_who_did_what(visit: Callable[..., Watched], own: Shop, here: Site) -> None:
    page = visit("audit", on=here).page
    expect(page.get_by_text("this machine, without a key").first).to_be_visible()


def test_a_form_of_another_site_changes_nothing(browser: Browser, own: Shop, here: Site) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto("about:blank")
    page.set_content(
        f"<form method=post action='{here.url}queues/pause'><input name=queue value=mail><button>go</form>"
    )
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(re.compile("Not allowed|Sign in"))
    context.close()
    assert not row(own.conn, "SELECT paused FROM holdfast.queues WHERE name = 'mail'")["paused"]


def test_a_link_signs_in_once_and_a_session_can_be_ended(browser: Browser, own: Shop, here: Site) -> None:
    own.conn.execute("SELECT 1")
    here.key(Role.ADMIN)  # From the first key on everybody needs one.
    here.run(here.services.ring.step())
    link = here.link()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(here.url + "queues")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(link)
    expect(page).to_have_url(here.url)
    assert "code=" not in page.url
    cookie = context.cookies()[0]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/dashboard")
    other = browser.new_context().new_page()
    other.goto(link)
    expect(other.get_by_role("alert")).to_contain_text("used already")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(here.url + "queues")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    other.context.close()
    context.close()


def test_a_viewer_signs_in_with_a_key_and_finds_buttons_that_say_why_not(
    browser: Browser, own: Shop, here: Site
) -> None:
    token = here.key(Role.VIEWER)
    here.run(here.services.ring.step())
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(f"{here.url}jobs/{own.jobs['running']}")
    page.get_by_label("API key").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{here.url}jobs/{own.jobs['running']}")
    button = page.get_by_role("button", name="Cancel")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(re.compile("takes operator or admin"))
    expect(page.get_by_text("Your role (viewer) may not").first).to_be_visible()
    assert "2026-10" not in page.locator("main").inner_text()
    page.goto(here.url + "audit")
    expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()
    context.close()


def test_a_key_for_programs_does_not_sign_in(browser: Browser, own: Shop, here: Site) -> None:
    token = here.key(Role.SUBMITTER)
    here.run(here.services.ring.step())
    context = browser.new_context()
    page = context.new_page()
    page.goto(here.url)
    for key, answer in ((token, "for programs"), ("hf_nothing", "opens nothing")):
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text(answer)
    context.close()
